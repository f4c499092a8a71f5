import { Command, InvalidArgumentError } from "commander";
import { KvspliceError, parseBytes } from "../engine/index.js";
import type { CollectReport } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { sizeText } from "./progress.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions &
  ModelOptions & {
    readonly store: string;
    readonly olderThan?: number;
    readonly budget?: number;
    readonly dryRun?: boolean;
    readonly json?: boolean;
  };

export function storeGcCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("gc")))
    .description("remove blocks from this machine's disk that the corpus does not use")
    .requiredOption("--store <dir>", "folder of the corpus")
    .option("--older-than <time>", "only blocks that have been unused for this long: 30d, 12h, 45m", duration)
    .option("--budget <size>", "only until the disk tier is no larger than this, least recently used first: 2GB", bytes)
    .option("--dry-run", "remove nothing; report what would be removed")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
precompute itself removes the chunks of changed and deleted files. gc removes the other blocks: PML modules (kvsplice
pml precompute), conversations of kvsplice serve, and blocks of an interrupted import or run. Blocks that are needed
later are encoded again. The shared tier is not changed: other corpora may use it, and it has its own budget.

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
    if (!disk)
      throw new KvspliceError(
        "bad_store",
        "This store has no disk tier. gc does not change the shared tier, which is limited by its budget.",
      );
    const report = await corpus.collect(disk, {
      olderThan_ms: options.olderThan,
      budget_bytes: options.budget,
      dryRun: options.dryRun,
      signal,
    });
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else printReport(report, options);
  });
}

function printReport(
  { unreferenced, removed, removed_bytes, before_bytes, after_bytes }: CollectReport,
  { dryRun, budget }: Options,
): void {
  process.stdout.write(
    `${counted(unreferenced, "block")} not in use; ${removed} of them (${sizeText(removed_bytes)}) ${dryRun ? "would be removed" : "removed"}.\n`,
  );
  const left = dryRun ? before_bytes - removed_bytes : after_bytes;
  process.stdout.write(`The disk tier ${dryRun ? "would shrink" : "shrank"} from ${sizeText(before_bytes)} to ${sizeText(left)}.\n`);
  if (budget !== undefined && left > budget)
    process.stdout.write(`The corpus uses the rest, so the budget of ${sizeText(budget)} cannot be reached.\n`);
}
