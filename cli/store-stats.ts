import { Command } from "commander";
import { KvspliceError, type StoreStats, type TieredStore, type TierName } from "../engine/index.js";
import { type CorpusSummary, peekCorpus } from "../rag/index.js";
import { withInterrupt } from "./interrupt.js";
import { progressBar, sizeText } from "./progress.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & { readonly store: string; readonly json?: boolean };

/** Blocks of one tier, model and precision. */
type Group = {
  readonly tier: TierName;
  readonly model: string;
  readonly precision: string;
  blocks: number;
  bytes: number;
  tokens: number;
  uses: number;
  pinned: number;
};

export function storeStatsCommand(): Command {
  return withStoreOptions(new Command("stats"))
    .description("show what a store contains by tier, model and precision, and its hit rates")
    .requiredOption("--store <dir>", "folder of the corpus")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice store stats --store handbook.kv
  $ kvsplice store stats --store handbook.kv --json | jq .blocks`,
    )
    .action(storeStats);
}

async function storeStats(options: Options): Promise<void> {
  await withInterrupt(async (signal) => {
    const corpus = await peekCorpus(options.store);
    const store = openConfiguredStore(options.store, options);
    try {
      const groups = await groupsOf(store, options, signal);
      const stats = await store.stats();
      if (options.json) process.stdout.write(`${JSON.stringify({ corpus, blocks: groups, ...stats })}\n`);
      else print(options.store, corpus, groups, stats);
    } finally {
      await store.close();
    }
  });
}

async function groupsOf(store: TieredStore, options: Options, signal: AbortSignal): Promise<Group[]> {
  const groups = new Map<string, Group>();
  const bar = progressBar("{value} blocks read", options);
  let seen = 0;
  for (const { name: tier, infos } of store.tiers.map((each) => ({ name: each.name, infos: each.infos() }))) {
    for await (const { model, precision, bytes, tokens, uses, pinned } of infos) {
      if (signal.aborted) throw new KvspliceError("cancelled", "Cancelled.", { cause: signal.reason });
      const key = `${tier} ${model} ${precision}`;
      const group = groups.get(key) ?? { tier, model, precision, blocks: 0, bytes: 0, tokens: 0, uses: 0, pinned: 0 };
      groups.set(key, group);
      group.blocks++;
      group.bytes += bytes;
      group.tokens += tokens;
      group.uses += uses;
      if (pinned) group.pinned++;
      bar.tell(++seen, seen, {});
    }
  }
  bar.stop();
  return [...groups.values()];
}

function print(dir: string, corpus: CorpusSummary | undefined, groups: readonly Group[], { tiers, pending, ever }: StoreStats): void {
  const lines: string[] = [];
  lines.push(
    corpus === undefined
      ? `${dir} has no corpus.`
      : `${dir}: ${counted(corpus.files, "file")}, ${counted(corpus.chunks, "chunk")}, ${counted(corpus.tokens, "token")} of ${corpus.modelName}.`,
  );
  lines.push(
    "",
    table(
      ["tier", "model", "precision", "blocks", "tokens", "size", "pinned", "reads"],
      groups.map((group) => [
        group.tier,
        group.model || "(unknown)",
        group.precision,
        group.blocks,
        group.tokens,
        sizeText(group.bytes),
        group.pinned,
        group.uses,
      ]),
    ),
  );
  const reads = ever === undefined ? 0 : Object.values(ever).reduce((sum, count) => sum + count, 0);
  const told = (count: number | undefined) =>
    count === undefined ? "not counted" : `${count}${reads === 0 ? "" : ` (${((100 * count) / reads).toFixed(1)} %)`}`;
  // The memory tier of this command is empty. Only the reads that it answered in other processes mean something.
  lines.push(
    "",
    table(
      ["tier", "reads answered", "size", "budget"],
      tiers.map(({ tier, bytes, budget_bytes }) => [
        tier,
        told(ever?.[tier]),
        tier === "memory" || bytes === undefined ? "" : sizeText(bytes),
        budget_bytes === undefined ? "none" : sizeText(budget_bytes),
      ]),
    ),
  );
  lines.push(
    "",
    `Of ${counted(reads, "read")} by all processes, ${told(ever?.misses)} found nothing. ${counted(pending, "block")} waiting for the shared tier.`,
  );
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** Aligned columns, with numbers on the right. */
function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cells = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const isNumber = head.map((_, column) => rows.every((row) => typeof row[column] === "number"));
  return cells
    .map((row) =>
      row
        .map((cell, column) => (isNumber[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
