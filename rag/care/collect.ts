import { KvspliceError, type BlockInfo, type BlockKey, type StoredTier } from "../../engine/index.js";

export type CollectOptions = {
  /** Only blocks that were not put or read for so long. */
  readonly olderThan_ms?: number | undefined;
  /** Only as many, those longest unused first, as bring the tier down to so many bytes. */
  readonly budget_bytes?: number | undefined;
  /** Removes nothing, and tells what would be. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
};

export type CollectReport = {
  /** Blocks that nothing refers to, and how many of them were removed. */
  readonly unreferenced: number;
  readonly removed: number;
  readonly removed_bytes: number;
  /** What the tier held, and holds now. */
  readonly before_bytes: number;
  readonly after_bytes: number;
};

/** Blocks removed at once. */
const BATCH = 256;

/**
 * Removes from a tier what nothing refers to, pinned or not: a pin keeps a block from being evicted, and those of a
 * precompute that was ended for good would else stay for ever.
 *
 * @throws KvspliceError `cancelled`
 */
export async function collect(tier: StoredTier, isReferred: (key: BlockKey) => boolean, options: CollectOptions = {}): Promise<CollectReport> {
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
    if (signal?.aborted) throw new KvspliceError("cancelled", "Cancelled. What was removed before is removed.", { cause: signal.reason });
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
