import type { Visible } from "./backend/cpu/pass.js";
import type { Block } from "./kv/block.js";
import type { KvCache } from "./backend/cpu/cache.js";
import type { CachePool } from "./backend/cpu/pool.js";
import { isBlockPiece, type Piece, type Plan, positionsOf } from "../plan/index.js";
import type { BlockKey } from "./store/store.js";

/** KV of a piece that need not be computed. */
export type CachedPiece = { readonly key: BlockKey; readonly block: Block };

/** Computed rows of a cache that are to be kept under a key. */
export type KeptRows = { readonly key: BlockKey; readonly row: number; readonly tokens: number };

/** A plan whose cached pieces are spliced, and what is left of it to compute. */
export type Prompt = {
  readonly cache: KvCache;
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** What of the spliced rows each token sees; all of them where undefined. */
  readonly visible: Visible | undefined;
  /** Rows that were spliced. Computed ones lie behind them. */
  readonly spliced: number;
  /** Computed pieces whose KV is to be kept. */
  readonly unkept: readonly KeptRows[];
};

/**
 * Splices a plan's cached pieces into a cache of the pool, those that it does not begin with already.
 * @param room rows for the answer, so that the cache need not grow under it
 */
export function splicePlan(plan: Plan, cached: ReadonlyMap<Piece, CachedPiece>, caches: CachePool, room: number): Prompt {
  const ids = [...cached].map(([piece, { key }]) => idOf(piece, key));
  const length = plan.pieces.reduce((sum, piece) => sum + (isBlockPiece(piece) ? piece.block : piece).tokens.length, 0);
  const taken = caches.take(length + room, ids);
  const { cache } = taken;
  try {
    const tokens: number[] = [];
    const positions: number[] = [];
    const counts: number[] = [];
    const unkept: KeptRows[] = [];
    let rows = 0;
    let met = 0;
    for (const piece of plan.pieces) {
      const found = cached.get(piece);
      if (found) {
        if (met >= taken.pieces.length) {
          const source = isBlockPiece(piece) ? piece.block : piece;
          cache.splice(found.block, positionsOf(source, piece.at), isBlockPiece(piece) ? piece.omit : undefined);
          caches.splicedPiece(cache, ids[met]!);
        }
        rows = taken.pieces[met++] ?? cache.length;
        continue;
      }
      if (isBlockPiece(piece)) throw new Error("A block of the plan was not fetched.");
      if (piece.keep !== undefined) unkept.push({ key: piece.keep, row: tokens.length, tokens: piece.tokens.length });
      piece.tokens.forEach((token, i) => {
        tokens.push(token);
        positions.push(piece.at + i);
        counts.push(rows);
      });
    }
    const seesAll = counts.every((count) => count === rows);
    return {
      cache,
      tokens,
      positions,
      visible: seesAll ? undefined : { counts, shared: rows },
      spliced: rows,
      unkept: unkept.map((kept) => ({ ...kept, row: rows + kept.row })),
    };
  } catch (error) {
    caches.giveBack(cache);
    throw error;
  }
}

/** Tells apart what splicing a piece lays into a cache. */
function idOf(piece: Piece, key: BlockKey): string {
  return `${key} ${piece.at} ${isBlockPiece(piece) ? JSON.stringify(piece.omit ?? []) : "[]"}`;
}
