import { Command } from "commander";
import pc from "picocolors";
import { KvspliceError, type Precision } from "../engine/index.js";
import { openFleet } from "../fleet/index.js";
import type { Report } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { precisionOption } from "./precision.js";
import { progressBar } from "./progress.js";
import { queueOption, withSharedTier } from "./queue.js";
import { withStoreOptions, type StoreOptions } from "./store.js";

type Options = StoreOptions & { readonly store: string; readonly model?: string; readonly precision?: Precision; readonly queue?: string; readonly json?: boolean };

export function precomputeCommand(): Command {
  return withStoreOptions(new Command("precompute"))
    .description("split documents into chunks and keep each chunk's KV states, so that questions over them start at once")
    .argument("<files...>", "files, folders and globs of .md, .txt, .html, .pdf and .jsonl")
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .addOption(precisionOption())
    .addOption(queueOption("leave the encoding to kvsplice worker processes, on this machine or others, by a queue in this Redis"))
    .option("--model <gguf>", "a Llama-shaped GGUF model instead of the one that kvsplice carries")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
Only what changed is computed: run it again after editing, adding or deleting files.
A run that was ended in the middle goes on where it was.

Examples:
  $ kvsplice precompute handbook/ --store handbook.kv
  $ kvsplice precompute 'notes/**/*.md' report.pdf --store notes.kv --json
  $ kvsplice precompute handbook/ --store handbook.kv --queue redis://10.0.0.5:6379`,
    )
    .action(precompute);
}

async function precompute(files: string[], options: Options): Promise<void> {
  const { queue } = options;
  const tiers = queue === undefined ? options : withSharedTier({ ...options, queue });
  await withCorpus({ ...tiers, create: true }, async (corpus, model, signal, store) => {
    const bar = progressBar(`{bar} {percentage}% | {files} files | {encoded} chunks encoded, ${queue === undefined ? "" : "{workers} workers, "}{rate} tokens/s | {eta_formatted} left | {path}`, options);
    const start = performance.now();
    const fleet = queue === undefined ? undefined : await openFleet({ url: queue, model, store, onNotice: warn });
    let report: Report;
    try {
      report = await corpus.precompute(files, {
        signal,
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
    if (report.chunks === 0) {
      throw new KvspliceError("empty_corpus", "No text was found in these files, so there is nothing to ask. Name files of .md, .txt, .html, .pdf or .jsonl.");
    }
  });
}

function warn(notice: string): void {
  process.stderr.write(`${pc.yellow("warning:")} ${notice}\n`);
}

function printReport(report: Report, store: string, seconds: number): void {
  for (const { path, line, reason } of report.problems) process.stderr.write(`${pc.yellow("skipped")} ${path}${line === undefined ? "" : `:${line}`}: ${reason}\n`);
  const { files, unchanged, removed, encoded, chunks, tokens } = report;
  process.stdout.write(
    `${files} files (${unchanged} unchanged, ${removed} removed): ${encoded} chunks encoded in ${seconds.toFixed(1)} s.\n` +
      `${store} holds ${chunks} chunks, ${tokens} tokens.\n`,
  );
}
