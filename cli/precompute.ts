import { statfs } from "node:fs/promises";
import { Command } from "commander";
import pc from "picocolors";
import type { Precision } from "../engine/index.js";
import type { Fleet } from "../fleet/index.js";
import { KvspliceError } from "../plan/index.js";
import { type Corpus, embedCorpusAgain, LOADABLE, peekCorpus, type Report, watchFiles } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { type EmbedderOptions, openEmbedder, withEmbedderOption } from "./embedder.js";
import { withInterrupt } from "./interrupt.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { precisionOption } from "./precision.js";
import { mustHaveRead, printEstimate, printReport, warningsOf } from "./precompute-report.js";
import { progressBar } from "./progress.js";
import { queueOption, withSharedTier } from "./queue.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions &
  ModelOptions &
  EmbedderOptions & {
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
  return withEmbedderOption(withModelOptions(withStoreOptions(new Command("precompute"))), "; a different one embeds the corpus again")
    .description("split documents into chunks and store each chunk's KV states, so that answers start at once")
    .argument("<files...>", `files, folders and globs of ${LOADABLE}`)
    .requiredOption("--store <dir>", "folder of the corpus")
    .option(
      "--ocr <command>",
      'command that reads PDF pages that are images: it gets a PNG on standard input and prints the text, such as "tesseract stdin stdout"',
    )
    .option("--follow-links", "follow links to folders, even outside the named folders")
    .option("--strict", "end with an error if anything was not read")
    .option("--prune", "also remove files from the corpus that are still on disk but not among these names")
    .option("--watch", "keep running and apply every change to the files until Ctrl-C")
    .option("--dry-run", "change nothing; estimate the cost by reading the files and encoding a few chunks")
    .addOption(precisionOption())
    .addOption(queueOption("let kvsplice worker processes, here or on other machines, do the encoding through a queue in this Redis"))
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
Only changes are computed: run the command again after editing, adding or deleting files. An interrupted run resumes
where it stopped. Files that no longer exist are removed from the corpus; moved files and folders keep their chunks.
In folders, files of other types are counted and ignored. Hidden files (not counted), node_modules, and the _static and
_sources folders of Sphinx sites are ignored too; docs/documents.md has the details. PDF pages that cannot be read are
reported, and the other pages are read.

Examples:
  $ kvsplice precompute handbook/ --store handbook.kv
  $ kvsplice precompute handbook/ --store handbook.kv --dry-run
  $ kvsplice precompute handbook/ --store handbook.kv --prune --watch
  $ kvsplice precompute 'notes/**/*.md' report.pdf --store notes.kv --json
  $ kvsplice precompute handbuch/ --store handbuch.kv --embedder hf:intfloat/multilingual-e5-small
  $ kvsplice precompute scans/ --store scans.kv --ocr "tesseract stdin stdout -l eng+deu" --strict
  $ kvsplice precompute handbook/ --store handbook.kv --queue redis://10.0.0.5:6379`,
    )
    .action(precompute);
}

/** The default memory tier: a precompute never reads a block again. */
const NO_MEMORY = "0";

type TimedReport = Report & { readonly seconds: number };

/** After this time, a run's speed is used to predict its total time. */
const FORESIGHT_SECONDS = 60;

async function precompute(files: string[], options: Options): Promise<void> {
  const { queue, dryRun, watch, strict = false } = options;
  const lean = { memory: NO_MEMORY, ...options };
  const tiers = queue === undefined ? lean : withSharedTier({ ...lean, queue });
  if (!dryRun) await embedAgain(options);
  await withCorpus({ ...tiers, create: true }, async (corpus, model, signal, store) => {
    if (dryRun) return tellCost(files, options, corpus, signal);
    const fleet =
      queue === undefined ? undefined : await (await import("../fleet/index.js")).openFleet({ url: queue, model, store, onNotice: warn });
    try {
      const run = () => precomputeOnce(files, options, corpus, signal, fleet);
      const report = await run();
      print(report, options);
      if (!watch) return mustHaveRead(report, strict);
      process.stderr.write("Watching for changes. Press Ctrl-C to stop.\n");
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

/** If the corpus was embedded with another embedder, embeds it again with the requested one. Its blocks stay. */
async function embedAgain(options: Options): Promise<void> {
  const corpus = options.embedder === undefined ? undefined : await peekCorpus(options.store);
  if (corpus === undefined) return;
  await withInterrupt(async (signal) => {
    const { embedder, embedderName } = await openEmbedder(options, options.store, signal);
    const bar = progressBar("{bar} {percentage}% | {value}/{total} chunks re-embedded | {eta_formatted} left", options);
    try {
      const chunks = await embedCorpusAgain(options.store, embedder, {
        embedderName,
        signal,
        onProgress: (done, total) => bar.tell(done, total, {}),
      });
      if (chunks > 0 && !options.json)
        process.stderr.write(`Re-embedded ${counted(chunks, "chunk")} with ${embedder.name} instead of ${corpus.embedder}.\n`);
    } finally {
      bar.stop();
      await embedder.close();
    }
  });
}

async function precomputeOnce(
  files: readonly string[],
  options: Options,
  corpus: Corpus,
  signal: AbortSignal,
  fleet: Fleet | undefined,
): Promise<TimedReport> {
  const { ocr, followLinks, prune } = options;
  const start = performance.now();
  let warned = false;
  const bar = progressBar(
    `{bar} {percentage}% | {files} files | {encoded} chunks encoded, ${fleet === undefined ? "" : "{workers} workers, "}{rate} tokens/s | {eta_formatted} left | {path}`,
    options,
  );
  try {
    const report = await corpus.precompute(files, {
      signal,
      ocr,
      followLinks,
      prune,
      encoder: fleet,
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

/** While files are watched, an error concerns only their current state: the next change may fix it. */
function tellAndGoOn(error: unknown): undefined {
  if (!(error instanceof KvspliceError) || error.code === "cancelled") throw error;
  warn(error.message);
  return undefined;
}

function warn(notice: string): void {
  process.stderr.write(`${pc.yellow("warning:")} ${notice}\n`);
}
