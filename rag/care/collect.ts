import { type BlockInfo, type BlockKey, KvspliceError, type StoredTier } from "../../engine/index.js";

/** Which unreferenced blocks are removed. */
export type CollectOptions = {
  /** Only blocks that were not put or read for this long; any age by default. */
  readonly olderThan_ms?: number | undefined;
  /** Only until the tier is down to this many bytes, least recently used blocks first; all by default. */
  readonly budget_bytes?: number | undefined;
  /** Only reports what would be removed; false by default. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** What a collection found and removed. */
export type CollectReport = {
  /** Blocks that nothing refers to, and how many of them were removed. */
  readonly unreferenced: number;
  readonly removed: number;
  readonly removed_bytes: number;
  /** The tier's size before and after. */
  readonly before_bytes: number;
  readonly after_bytes: number;
};

/** Blocks removed at a time. */
const BATCH = 256;

/**
 * Removes from a tier the blocks that nothing refers to, pinned or not: a pin protects a block from eviction, so those
 * of an abandoned precompute would otherwise stay forever.
 *
 * @throws KvspliceError `cancelled`
 */
export async function collect(
  tier: StoredTier,
  isReferred: (key: BlockKey) => boolean,
  options: CollectOptions = {},
): Promise<CollectReport> {
  const { olderThan_ms = 0, budget_bytes, dryRun = false, signal } = options;
  const latest = Date.now() - olderThan_ms;
  const before_bytes = await tier.bytes();
  let unreferenced = 0;
  const old: Pick<BlockInfo, "key" | "bytes" | "used_ms">[] = [];
  for await (const { key, bytes, used_ms } of tier.infos()) {
    if (isReferred(key)) continue;
    unreferenced++;
    if (used_ms <= latest) old.push({ key, bytes, used_ms });
  }
  old.sort((a, b) => a.used_ms - b.used_ms);
  let removed = 0;
  let removed_bytes = 0;
  for (let start = 0; start < old.length; ) {
    if (signal?.aborted) throw new KvspliceError("cancelled", "Cancelled. Blocks removed so far stay removed.", { cause: signal.reason });
    const batch: BlockKey[] = [];
    for (; start < old.length && batch.length < BATCH; start++) {
      if (budget_bytes !== undefined && before_bytes - removed_bytes <= budget_bytes) break;
      batch.push(old[start]!.key);
      removed_bytes += old[start]!.bytes;
    }
    if (batch.length === 0) break;
    if (!dryRun) await tier.delete(batch);
    removed += batch.length;
  }
  return { unreferenced, removed, removed_bytes, before_bytes, after_bytes: dryRun ? before_bytes : await tier.bytes() };
}
