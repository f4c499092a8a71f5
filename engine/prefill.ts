import { isBlockPiece, type Piece, type Plan, positionsOf, type Range } from "../plan/index.js";
import type { Cache, PassPart, Visible } from "./backend/backend.js";
import type { CachePool } from "./cache-pool.js";
import type { Block } from "./kv/block.js";
import type { BlockKey } from "./store/store.js";

/** KV of a piece that does not have to be computed. */
export type CachedPiece = { readonly key: BlockKey; readonly block: Block };

/** Fresh tokens that are computed together. */
export type Stretch = {
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** Which spliced rows each token sees; all of them if undefined. */
  readonly visible: Visible | undefined;
  /** The key under which their KV is kept. */
  readonly keep: BlockKey | undefined;
};

/** A plan whose cached pieces have been spliced, and the rest of it, still to be computed. */
export type SplicedPlan = {
  readonly cache: Cache;
  /** Rows that were spliced. Computed rows follow them. */
  readonly spliced: number;
  /** In order; the answer starts from the last one's last token. */
  readonly stretches: readonly Stretch[];
  /** The last piece's KV, if it was cached: all of it is spliced except the last token, whose logits are needed. */
  readonly last: CachedPiece | undefined;
};

/**
 * Splices a plan's cached pieces into a cache of the pool, except those that the cache already begins with.
 * @param room rows for the answer, so that the cache does not have to grow during it
 */
export async function splicePlan(
  plan: Plan,
  cached: ReadonlyMap<Piece, CachedPiece>,
  caches: CachePool,
  room: number,
): Promise<SplicedPlan> {
  const lastPiece = plan.pieces.at(-1)!;
  const omitOf = (piece: Piece): readonly Range[] => {
    if (isBlockPiece(piece)) return piece.omit ?? [];
    return piece === lastPiece ? [[piece.tokens.length - 1, piece.tokens.length]] : [];
  };
  const ids = [...cached].map(([piece, { key }]) => `${key} ${piece.at} ${JSON.stringify(omitOf(piece))}`);
  const length = plan.pieces.reduce((sum, piece) => sum + (isBlockPiece(piece) ? piece.block : piece).tokens.length, 0);
  const taken = await caches.take(length + room, ids);
  const { cache } = taken;
  const splices: (void | Promise<void>)[] = [];
  try {
    const stretches: { tokens: number[]; positions: number[]; counts: number[]; keep: BlockKey | undefined }[] = [];
    let rows = 0;
    let met = 0;
    for (const piece of plan.pieces) {
      const found = cached.get(piece);
      if (found) {
        if (met >= taken.pieces.length) {
          splices.push(cache.splice(found.block, positionsOf(isBlockPiece(piece) ? piece.block : piece, piece.at), omitOf(piece)));
          caches.splicedPiece(cache, ids[met]!);
        }
        rows = taken.pieces[met++] ?? cache.length;
        if (piece !== lastPiece || isBlockPiece(piece)) continue;
      }
      if (isBlockPiece(piece)) throw new Error("A block of the plan was not fetched.");
      const first = found ? piece.tokens.length - 1 : 0;
      const keep = found ? undefined : piece.keep;
      if (keep !== undefined || stretches.length === 0 || stretches.at(-1)!.keep !== undefined)
        stretches.push({ tokens: [], positions: [], counts: [], keep });
      const stretch = stretches.at(-1)!;
      for (let i = first; i < piece.tokens.length; i++) {
        stretch.tokens.push(piece.tokens[i]!);
        stretch.positions.push(piece.at + i);
        stretch.counts.push(rows);
      }
    }
    await Promise.all(splices);
    return {
      cache,
      spliced: rows,
      stretches: stretches.map(({ counts, ...stretch }) => ({
        ...stretch,
        visible: counts.every((count) => count === rows) ? undefined : { counts, shared: rows },
      })),
      last: cached.get(lastPiece),
    };
  } catch (error) {
    await Promise.allSettled(splices);
    caches.discard(cache);
    throw error;
  }
}

/** The cached pieces of a plan that was derived from another: its pieces are parts of the other's blocks, or the other's own pieces. */
export function cachedAgain({ pieces }: Plan, cached: ReadonlyMap<Piece, CachedPiece>): ReadonlyMap<Piece, CachedPiece> {
  const sourceOf = (piece: Piece) => (isBlockPiece(piece) ? piece.block : piece);
  const bySource = new Map([...cached].map(([piece, found]) => [sourceOf(piece), found]));
  return new Map(
    pieces.flatMap((piece) => {
      const found = bySource.get(sourceOf(piece));
      return found ? [[piece, found] as const] : [];
    }),
  );
}

/** Computes tokens of a cache: see `Scheduler.compute`. */
export type Compute = (part: PassPart) => Promise<Float32Array>;

/** Takes the KV of a cache's rows `[from, to)` for the store, and returns the block that the store will have. */
export type Keep = (key: BlockKey, from: number, to: number) => Block | Promise<Block>;

/**
 * Computes the part of a prompt that was not spliced. KV that is kept is replaced by its stored form as soon as it is
 * computed, so later tokens see the same values whether the KV was just computed or came from the store.
 *
 * @returns the last token's logits
 */
export async function prefill({ cache, stretches, last }: SplicedPlan, compute: Compute, keepAs: Keep): Promise<Float32Array> {
  let logits: Float32Array = new Float32Array(0);
  for (const [i, { keep, ...stretch }] of stretches.entries()) {
    const isLast = i === stretches.length - 1;
    if (keep === undefined) {
      logits = await compute({ cache, ...stretch, logits: isLast ? 1 : 0 });
      if (isLast && last) await layLast(cache, last.block, stretch.positions);
      continue;
    }
    const row = cache.length;
    await compute({ cache, ...stretch, logits: 0 });
    const block = await keepAs(keep, row, cache.length);
    cache.truncate(row);
    const positions = Int32Array.from(stretch.positions);
    const { tokens } = block;
    if (!isLast) await cache.splice(block, positions);
    else {
      await cache.splice(block, positions, [[tokens - 1, tokens]]);
      logits = await compute({
        cache,
        tokens: stretch.tokens.slice(-1),
        positions: stretch.positions.slice(-1),
        visible: lastOf(stretch.visible),
        logits: 1,
      });
      await layLast(cache, block, stretch.positions);
    }
  }
  return logits;
}

/** Replaces the last row, which was computed for its logits, with its stored form. */
async function layLast(cache: Cache, block: Block, positions: readonly number[]): Promise<void> {
  const at = new Int32Array(block.tokens).fill(positions.at(-1)!);
  cache.truncate(cache.length - 1);
  await cache.splice(block, at, [[0, block.tokens - 1]]);
}

function lastOf(visible: Visible | undefined): Visible | undefined {
  return visible && { counts: visible.counts.slice(-1), shared: visible.shared };
}
