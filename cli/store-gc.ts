import { Command, InvalidArgumentError } from "commander";
import { KvspliceError, parseBytes } from "../engine/index.js";
import type { CollectReport } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { sizeText } from "./progress.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & ModelOptions & {
  readonly store: string;
  readonly olderThan?: number;
  readonly budget?: number;
  readonly dryRun?: boolean;
  readonly json?: boolean;
};

export function storeGcCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("gc")))
    .description("remove blocks of this machine's disk that the corpus does not refer to")
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .option("--older-than <time>", "only those that were not used for so long: 30d, 12h, 45m", duration)
    .option("--budget <size>", "only as many, those longest unused first, as bring the disk tier down to this: 2GB", bytes)
    .option("--dry-run", "remove nothing, and tell what would be")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
Chunks of files that changed or went are removed by precompute itself. What is left to gc is what others put into the
store: modules of PML (kvsplice pml precompute), conversations of kvsplice serve, blocks of an import or a run that was
ended. What is needed again is encoded again. The shared tier stays as it is: other corpora may refer to it, and it has
a budget of its own.

Examples:
  $ kvsplice store gc --store handbook.kv --dry-run
  $ kvsplice store gc --store handbook.kv --older-than 30d
  $ kvsplice store gc --store handbook.kv --budget 2GB`,
    )
    .action(collectStore);
}

const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;

function duration(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)\s*([mhdw])$/.exec(text.trim()) ?? [];
  if (count === undefined) throw new InvalidArgumentError("Give a time such as 30d, 12h or 45m.");
  return Number(count) * UNITS_MS[unit as keyof typeof UNITS_MS];
}

function bytes(text: string): number {
  const size = parseBytes(text);
  if (size === undefined) throw new InvalidArgumentError("Give a size such as 2GB or 512MB.");
  return size;
}

async function collectStore(options: Options): Promise<void> {
  await withCorpus({ ...options, create: false }, async (corpus, _model, signal, store) => {
    const disk = store.tiers.find(({ name }) => name === "disk");
    if (!disk) throw new KvspliceError("bad_store", "The store has no disk tier here, and gc leaves the shared tier alone: its budget clears it.");
    const report = await corpus.collect(disk, { olderThan_ms: options.olderThan, budget_bytes: options.budget, dryRun: options.dryRun, signal });
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else printReport(report, options);
  });
}

function printReport({ unreferenced, removed, removed_bytes, before_bytes, after_bytes }: CollectReport, { dryRun, budget }: Options): void {
  process.stdout.write(`${counted(unreferenced, "block")} that nothing refers to; ${removed} of them (${sizeText(removed_bytes)}) ${dryRun ? "would be" : "are"} removed.\n`);
  const left = dryRun ? before_bytes - removed_bytes : after_bytes;
  process.stdout.write(`The disk ${dryRun ? "would hold" : "holds"} ${sizeText(left)} of ${sizeText(before_bytes)}.\n`);
  if (budget !== undefined && left > budget) process.stdout.write(`The rest is what the corpus refers to, so ${sizeText(budget)} is not reached.\n`);
}
