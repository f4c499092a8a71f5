import { Command, InvalidArgumentError } from "commander";
import { type BlockKey, KvspliceError, type Model, type Precision, parseBytes, type TieredStore } from "../engine/index.js";
import { blocksOf } from "../pml/index.js";
import { type CollectReport, collect, peekCorpus } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { openSchema } from "./pml-files.js";
import { precisionOption } from "./precision.js";
import { sizeText } from "./progress.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions &
  ModelOptions & {
    readonly store: string;
    readonly olderThan?: number;
    readonly budget?: number;
    readonly schema?: readonly string[];
    readonly allowOutside?: boolean;
    readonly precision?: Precision;
    readonly dryRun?: boolean;
    readonly json?: boolean;
  };

export function storeGcCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("gc")))
    .description("remove blocks from this machine's disk that neither the corpus nor the given schemas use")
    .requiredOption("--store <dir>", "folder of the corpus, or of PML modules")
    .option("--schema <file...>", "PML schemas whose modules stay")
    .option("--older-than <time>", "only blocks that have been unused for this long: 30d, 12h, 45m", duration)
    .option("--budget <size>", "only until the disk tier is no larger than this, least recently used first: 2GB", bytes)
    .option("--dry-run", "remove nothing; report what would be removed")
    .option("--allow-outside", "allow src and imports from outside a schema's folder")
    .addOption(precisionOption())
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
precompute itself removes the chunks of changed and deleted files. gc removes the other blocks: PML modules that no given
schema has (as they are after a change of their text), conversations of kvsplice serve, blocks of other models, and those of
an interrupted import or run. Blocks that are needed later are encoded again. The shared tier is not changed: other corpora
may use it, and it has its own budget.

Examples:
  $ kvsplice store gc --store handbook.kv --dry-run
  $ kvsplice store gc --store handbook.kv --older-than 30d
  $ kvsplice store gc --store handbook.kv --budget 2GB
  $ kvsplice store gc --store trip.kv --schema trip.pml`,
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
  if (await peekCorpus(options.store)) {
    await withCorpus({ ...options, create: false }, (corpus, model, signal, store) =>
      collectIn(store, model, { ...options, signal, isUsed: (key) => corpus.holds(key) }),
    );
    return;
  }
  const { schema, olderThan, budget } = options;
  if (!schema && olderThan === undefined && budget === undefined)
    throw new KvspliceError(
      "bad_argument",
      `There is no corpus in ${options.store}. Name the PML schemas whose modules stay, as in kvsplice store gc --store ${options.store} --schema FILE.`,
    );
  const choice = await chooseModel(options, options.store);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      const store = openConfiguredStore(options.store, options);
      try {
        await collectIn(store, model, { ...options, signal, isUsed: () => false });
      } finally {
        await store.close();
      }
    }),
  );
}

type Collecting = Options & { readonly signal: AbortSignal; readonly isUsed: (key: BlockKey) => boolean };

async function collectIn(store: TieredStore, model: Model, { isUsed, signal, ...options }: Collecting): Promise<void> {
  const disk = store.tiers.find(({ name }) => name === "disk");
  if (!disk)
    throw new KvspliceError(
      "bad_store",
      "This store has no disk tier. gc does not change the shared tier, which is limited by its budget.",
    );
  const kept = new Set<BlockKey>();
  for (const file of options.schema ?? []) {
    const { layout } = await openSchema(file, undefined, model, undefined, options.allowOutside ? { allowOutside: true } : {});
    for (const block of blocksOf(layout)) kept.add(model.keyOf(block));
  }
  const report = await collect(disk, (key) => kept.has(key) || isUsed(key), {
    olderThan_ms: options.olderThan,
    budget_bytes: options.budget,
    dryRun: options.dryRun,
    signal,
  });
  if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else printReport(report, options);
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
    process.stdout.write(`The rest is in use, so the budget of ${sizeText(budget)} cannot be reached.\n`);
}
