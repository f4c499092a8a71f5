import { relative } from "node:path";
import { Command } from "commander";
import pc from "picocolors";
import type { VerifyReport } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { progressBar } from "./progress.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & ModelOptions & { readonly store: string; readonly repair?: boolean; readonly json?: boolean };

/** Maximum items listed for each kind of damage; `--json` lists all. */
const MOST_NAMED = 20;

export function storeVerifyCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("verify")))
    .description("read all stored blocks and records, and report what is damaged or missing")
    .requiredOption("--store <dir>", "folder of the corpus")
    .option("--repair", "remove what is damaged, so that it is computed again")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
The exit code is 1 if something is damaged or missing, and 0 if everything is sound or was repaired. A missing block, or
one that --repair removed, is encoded again by the next precompute or by the first answer that needs it. A file whose
record --repair removed is read again by the next precompute that names it.

Examples:
  $ kvsplice store verify --store handbook.kv
  $ kvsplice store verify --store handbook.kv --repair && kvsplice precompute handbook/ --store handbook.kv`,
    )
    .action(verifyStore);
}

async function verifyStore(options: Options): Promise<void> {
  await withCorpus({ ...options, create: false }, async (corpus, _model, signal, store) => {
    const bar = progressBar("{bar} {percentage}% | {value}/{total} blocks and chunks, {damaged} damaged | {eta_formatted} left", options);
    const report = await corpus
      .verify(store.tiers, {
        repair: options.repair,
        signal,
        onProgress: ({ blocks, chunks, totalChunks, damaged }) =>
          bar.tell(blocks + chunks, Math.max(blocks, totalChunks) + totalChunks, { damaged }),
      })
      .finally(() => bar.stop());
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else printReport(report);
    const { damaged, missing, records, repaired } = report;
    if (!repaired && damaged.length + missing.length + records.length > 0) process.exitCode = 1;
  });
}

function printReport({ blocks, chunks, damaged, missing, records, repaired }: VerifyReport): void {
  const list = (lines: readonly string[]) => {
    for (const line of lines.slice(0, MOST_NAMED)) process.stdout.write(`${line}\n`);
    if (lines.length > MOST_NAMED) process.stdout.write(`... and ${lines.length - MOST_NAMED} more (--json lists all)\n`);
  };
  list(damaged.map(({ key, tier }) => `${pc.red("damaged")} block ${key.slice(0, 12)} in ${tier}`));
  list(records.map(({ path, reason }) => `${pc.red("damaged")} record of ${relative(".", path)}: ${reason}`));
  list(missing.map(({ key, path, title }) => `${pc.yellow("missing")} block ${key.slice(0, 12)} of ${relative(".", path)} (${title})`));
  const found = `${counted(blocks, "block")} and ${counted(chunks, "chunk")} read: ${counted(damaged.length, "block")} damaged, ${missing.length} missing, ${counted(records.length, "file")} with damaged records.`;
  const next = repaired
    ? "Damaged items were removed; kvsplice precompute computes them again."
    : "Run again with --repair to remove damaged items; kvsplice precompute then computes damaged and missing ones again.";
  process.stdout.write(`${found}\n${damaged.length + missing.length + records.length === 0 ? "" : `${next}\n`}`);
}
