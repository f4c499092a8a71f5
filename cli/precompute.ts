import { SingleBar } from "cli-progress";
import { Command } from "commander";
import pc from "picocolors";
import { KvspliceError, type Precision } from "../engine/index.js";
import type { Report } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { precisionOption } from "./precision.js";
import { withStoreOptions, type StoreOptions } from "./store.js";

type Options = StoreOptions & { readonly store: string; readonly model?: string; readonly precision?: Precision; readonly json?: boolean };

export function precomputeCommand(): Command {
  return withStoreOptions(new Command("precompute"))
    .description("split documents into chunks and keep each chunk's KV states, so that questions over them start at once")
    .argument("<files...>", "files, folders and globs of .md, .txt, .html, .pdf and .jsonl")
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .addOption(precisionOption())
    .option("--model <gguf>", "a Llama-shaped GGUF model instead of the one that kvsplice carries")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
Only what changed is computed: run it again after editing, adding or deleting files.
A run that was ended in the middle goes on where it was.

Examples:
  $ kvsplice precompute handbook/ --store handbook.kv
  $ kvsplice precompute 'notes/**/*.md' report.pdf --store notes.kv --json`,
    )
    .action(precompute);
}

async function precompute(files: string[], options: Options): Promise<void> {
  await withCorpus({ ...options, create: true }, async (corpus, _model, signal) => {
    const bar = new SingleBar({
      format: "{bar} {percentage}% | {files} files | {encoded} chunks encoded, {rate} tokens/s | {eta_formatted} left | {path}",
      hideCursor: true,
      stream: process.stderr,
      fps: 10,
      etaBuffer: 50,
    });
    const quiet = options.json === true || !process.stderr.isTTY;
    const start = performance.now();
    let started = false;
    let report: Report;
    try {
      report = await corpus.precompute(files, {
        signal,
        onProgress({ path, files, bytes, encoded, tokens }) {
          if (quiet) return;
          const payload = {
            files: `${files.done}/${files.total}`,
            encoded,
            rate: Math.round((tokens / (performance.now() - start)) * 1000),
            path: path.slice(-40),
          };
          if (started) bar.update(bytes.done, payload);
          else bar.start(bytes.total, bytes.done, payload);
          started = true;
        },
      });
    } finally {
      if (started) bar.stop();
    }
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else printReport(report, options.store, (performance.now() - start) / 1000);
    if (report.chunks === 0) {
      throw new KvspliceError("empty_corpus", "No text was found in these files, so there is nothing to ask. Name files of .md, .txt, .html, .pdf or .jsonl.");
    }
  });
}

function printReport(report: Report, store: string, seconds: number): void {
  for (const { path, line, reason } of report.problems) process.stderr.write(`${pc.yellow("skipped")} ${path}${line === undefined ? "" : `:${line}`}: ${reason}\n`);
  const { files, unchanged, removed, encoded, chunks, tokens } = report;
  process.stdout.write(
    `${files} files (${unchanged} unchanged, ${removed} removed): ${encoded} chunks encoded in ${seconds.toFixed(1)} s.\n` +
      `${store} holds ${chunks} chunks, ${tokens} tokens.\n`,
  );
}
