import { statfs } from "node:fs/promises";
import { Command } from "commander";
import pc from "picocolors";
import type { Precision } from "../engine/index.js";
import { type Fleet, openFleet } from "../fleet/index.js";
import { KvspliceError } from "../plan/index.js";
import { type Corpus, LOADABLE, type Report, watchFiles } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { mustHaveRead, printEstimate, printReport, warningsOf } from "./precompute-report.js";
import { precisionOption } from "./precision.js";
import { progressBar } from "./progress.js";
import { queueOption, withSharedTier } from "./queue.js";
import { withStoreOptions, type StoreOptions } from "./store.js";

type Options = StoreOptions & ModelOptions & {
  readonly store: string;
  readonly ocr?: string;
  readonly followLinks?: boolean;
  readonly strict?: boolean;
  readonly prune?: boolean;
  readonly watch?: boolean;
  readonly dryRun?: boolean;
  readonly precision?: Precision;
  readonly queue?: string;
  readonly json?: boolean;
};

export function precomputeCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("precompute")))
    .description("split documents into chunks and keep each chunk's KV states, so that questions over them start at once")
    .argument("<files...>", `files, folders and globs of ${LOADABLE}`)
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .option("--ocr <command>", 'reads pages of PDFs that are pictures: it gets a PNG on its input and writes the text, such as "tesseract stdin stdout"')
    .option("--follow-links", "follow links to folders, and out of the folders that are named")
    .option("--strict", "end with an error where anything was not read")
    .option("--prune", "remove from the corpus what these names do not give, though it is still on disk")
    .option("--watch", "go on, and follow every change of the files until Ctrl-C")
    .option("--dry-run", "tell what this would cost, by reading the files and encoding a few chunks, and change nothing")
    .addOption(precisionOption())
    .addOption(queueOption("leave the encoding to kvsplice worker processes, on this machine or others, by a queue in this Redis"))
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
Only what changed is computed: run it again after editing, adding or deleting files.
A run that was ended in the middle goes on where it was. A name that is gone from the disk is taken out of the corpus;
a file or folder that was moved keeps its chunks.
In folders, files of other kinds are counted and passed over, and so are hidden files (not counted), node_modules,
and the _static and _sources of sites by Sphinx; docs/documents.md has all of it. Pages of a PDF that cannot be read are named, and the others read.

Examples:
  $ kvsplice precompute handbook/ --store handbook.kv
  $ kvsplice precompute handbook/ --store handbook.kv --dry-run
  $ kvsplice precompute handbook/ --store handbook.kv --prune --watch
  $ kvsplice precompute 'notes/**/*.md' report.pdf --store notes.kv --json
  $ kvsplice precompute scans/ --store scans.kv --ocr "tesseract stdin stdout -l eng+deu" --strict
  $ kvsplice precompute handbook/ --store handbook.kv --queue redis://10.0.0.5:6379`,
    )
    .action(precompute);
}

/** A precompute reads no block again, unless it is told to keep some. */
const NO_MEMORY = "0";

type TimedReport = Report & { readonly seconds: number };

/** After so long, a run's speed says how long it takes in all. */
const FORESIGHT_SECONDS = 60;

async function precompute(files: string[], options: Options): Promise<void> {
  const { queue, dryRun, watch, strict = false } = options;
  const lean = { memory: NO_MEMORY, ...options };
  const tiers = queue === undefined ? lean : withSharedTier({ ...lean, queue });
  await withCorpus({ ...tiers, create: true }, async (corpus, model, signal, store) => {
    if (dryRun) return tellCost(files, options, corpus, signal);
    const fleet = queue === undefined ? undefined : await openFleet({ url: queue, model, store, onNotice: warn });
    try {
      const run = () => precomputeOnce(files, options, corpus, signal, fleet);
      const report = await run();
      print(report, options);
      if (!watch) return mustHaveRead(report, strict);
      process.stderr.write("Watching for changes. Ctrl-C ends.\n");
      const onChange = async () => {
        const { generation } = corpus;
        const report = await run().catch(tellAndGoOn);
        if (report && corpus.generation !== generation) print(report, options);
      };
      await watchFiles(files, { signal, onChange });
    } finally {
      await fleet?.close();
    }
  });
}

async function precomputeOnce(files: readonly string[], options: Options, corpus: Corpus, signal: AbortSignal, fleet: Fleet | undefined): Promise<TimedReport> {
  const { ocr, followLinks, prune } = options;
  const start = performance.now();
  let warned = false;
  const bar = progressBar(`{bar} {percentage}% | {files} files | {encoded} chunks encoded, ${fleet === undefined ? "" : "{workers} workers, "}{rate} tokens/s | {eta_formatted} left | {path}`, options);
  try {
    const report = await corpus.precompute(files, {
      signal,
      ocr,
      followLinks,
      prune,
      supply: fleet,
      onProgress({ path, files, bytes, encoded, tokens }) {
        const all = fleet?.activity ?? { workers: 0, tokens };
        const elapsed = (performance.now() - start) / 1000;
        if (!warned && elapsed > FORESIGHT_SECONDS) {
          warned = true;
          for (const warning of warningsOf({ seconds: (elapsed * bytes.total) / bytes.done, bytes: 0 }, Infinity)) warn(warning);
        }
        bar.tell(bytes.done, bytes.total, {
          files: `${files.done}/${files.total}`,
          encoded,
          workers: all.workers,
          rate: Math.round(all.tokens / elapsed),
          path: path.slice(-40),
        });
      },
    });
    return { ...report, seconds: (performance.now() - start) / 1000 };
  } finally {
    bar.stop();
  }
}

function print({ seconds, ...report }: TimedReport, { json, store }: Options): void {
  if (json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else printReport(report, store, seconds);
}

async function tellCost(files: readonly string[], options: Options, corpus: Corpus, signal: AbortSignal): Promise<void> {
  const { ocr, followLinks, store } = options;
  const bar = progressBar("{bar} {percentage}% | {value}/{total} files | {path}", options);
  const estimate = await corpus
    .estimate(files, { ocr, followLinks, signal, onProgress: ({ path, done, total }) => bar.tell(done, total, { path: path.slice(-40) }) })
    .finally(() => bar.stop());
  if (options.json) process.stdout.write(`${JSON.stringify(estimate)}\n`);
  else printEstimate(estimate, store);
  const { bavail, bsize } = await statfs(store);
  for (const warning of warningsOf(estimate, bavail * bsize)) warn(warning);
}

/** While files are watched, an error is of the state they were in: the next change may mend it. */
function tellAndGoOn(error: unknown): undefined {
  if (!(error instanceof KvspliceError) || error.code === "cancelled") throw error;
  warn(error.message);
  return undefined;
}

function warn(notice: string): void {
  process.stderr.write(`${pc.yellow("warning:")} ${notice}\n`);
}
