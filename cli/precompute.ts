import { Command } from "commander";
import pc from "picocolors";
import type { Precision } from "../engine/index.js";
import { openFleet } from "../fleet/index.js";
import { LOADABLE, type Report } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { mustHaveRead, printReport } from "./precompute-report.js";
import { precisionOption } from "./precision.js";
import { progressBar } from "./progress.js";
import { queueOption, withSharedTier } from "./queue.js";
import { withStoreOptions, type StoreOptions } from "./store.js";

type Options = StoreOptions & {
  readonly store: string;
  readonly ocr?: string;
  readonly followLinks?: boolean;
  readonly strict?: boolean;
  readonly model?: string;
  readonly precision?: Precision;
  readonly queue?: string;
  readonly json?: boolean;
};

export function precomputeCommand(): Command {
  return withStoreOptions(new Command("precompute"))
    .description("split documents into chunks and keep each chunk's KV states, so that questions over them start at once")
    .argument("<files...>", `files, folders and globs of ${LOADABLE}`)
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .option("--ocr <command>", 'reads pages of PDFs that are pictures: it gets a PNG on its input and writes the text, such as "tesseract stdin stdout"')
    .option("--follow-links", "follow links to folders, and out of the folders that are named")
    .option("--strict", "end with an error where anything was not read")
    .addOption(precisionOption())
    .addOption(queueOption("leave the encoding to kvsplice worker processes, on this machine or others, by a queue in this Redis"))
    .option("--model <gguf>", "a Llama-shaped GGUF model instead of the one that kvsplice carries")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
Only what changed is computed: run it again after editing, adding or deleting files.
A run that was ended in the middle goes on where it was.
In folders, files of other kinds are counted and passed over, and so are hidden files (not counted), node_modules,
and the _static and _sources of sites by Sphinx. Pages of a PDF that cannot be read are named, and the others read.

Examples:
  $ kvsplice precompute handbook/ --store handbook.kv
  $ kvsplice precompute 'notes/**/*.md' report.pdf --store notes.kv --json
  $ kvsplice precompute scans/ --store scans.kv --ocr "tesseract stdin stdout -l eng+deu" --strict
  $ kvsplice precompute handbook/ --store handbook.kv --queue redis://10.0.0.5:6379`,
    )
    .action(precompute);
}

async function precompute(files: string[], options: Options): Promise<void> {
  const { queue, ocr, followLinks, strict = false } = options;
  const tiers = queue === undefined ? options : withSharedTier({ ...options, queue });
  await withCorpus({ ...tiers, create: true }, async (corpus, model, signal, store) => {
    const bar = progressBar(`{bar} {percentage}% | {files} files | {encoded} chunks encoded, ${queue === undefined ? "" : "{workers} workers, "}{rate} tokens/s | {eta_formatted} left | {path}`, options);
    const start = performance.now();
    const fleet = queue === undefined ? undefined : await openFleet({ url: queue, model, store, onNotice: warn });
    let report: Report;
    try {
      report = await corpus.precompute(files, {
        signal,
        ocr,
        followLinks,
        supply: fleet,
        onProgress({ path, files, bytes, encoded, tokens }) {
          const all = fleet?.activity ?? { workers: 0, tokens };
          bar.tell(bytes.done, bytes.total, {
            files: `${files.done}/${files.total}`,
            encoded,
            workers: all.workers,
            rate: Math.round((all.tokens / (performance.now() - start)) * 1000),
            path: path.slice(-40),
          });
        },
      });
    } finally {
      bar.stop();
      await fleet?.close();
    }
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else printReport(report, options.store, (performance.now() - start) / 1000);
    mustHaveRead(report, strict);
  });
}

function warn(notice: string): void {
  process.stderr.write(`${pc.yellow("warning:")} ${notice}\n`);
}
