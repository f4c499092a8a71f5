import type { Cache, PassPart, Visible } from "./backend/backend.js";
import type { Block } from "./kv/block.js";
import type { CachePool } from "./cache-pool.js";
import { isBlockPiece, type Piece, type Plan, positionsOf, type Range } from "../plan/index.js";
import type { BlockKey } from "./store/store.js";

/** KV of a piece that need not be computed. */
export type CachedPiece = { readonly key: BlockKey; readonly block: Block };

/** Fresh tokens that are computed together. */
export type Stretch = {
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** What of the spliced rows each token sees; all of them where undefined. */
  readonly visible: Visible | undefined;
  /** Where their KV is kept: under this key. */
  readonly keep: BlockKey | undefined;
};

/** A plan whose cached pieces are spliced, and what is left of it to compute. */
export type Prompt = {
  readonly cache: Cache;
  /** Rows that were spliced. Computed ones lie behind them. */
  readonly spliced: number;
  /** In order; the answer starts from the last one's last token. */
  readonly stretches: readonly Stretch[];
  /** The last piece's KV, where it was cached: all of it is spliced but the last token, whose logits are wanted. */
  readonly last: CachedPiece | undefined;
};

/**
 * Splices a plan's cached pieces into a cache of the pool, those that it does not begin with already.
 * @param room rows for the answer, so that the cache need not grow under it
 */
export function splicePlan(plan: Plan, cached: ReadonlyMap<Piece, CachedPiece>, caches: CachePool, room: number): Prompt {
  const lastPiece = plan.pieces.at(-1)!;
  const omitOf = (piece: Piece): readonly Range[] => {
    if (isBlockPiece(piece)) return piece.omit ?? [];
    return piece === lastPiece ? [[piece.tokens.length - 1, piece.tokens.length]] : [];
  };
  const ids = [...cached].map(([piece, { key }]) => `${key} ${piece.at} ${JSON.stringify(omitOf(piece))}`);
  const length = plan.pieces.reduce((sum, piece) => sum + (isBlockPiece(piece) ? piece.block : piece).tokens.length, 0);
  const taken = caches.take(length + room, ids);
  const { cache } = taken;
  try {
    const stretches: { tokens: number[]; positions: number[]; counts: number[]; keep: BlockKey | undefined }[] = [];
    let rows = 0;
    let met = 0;
    for (const piece of plan.pieces) {
      const found = cached.get(piece);
      if (found) {
        if (met >= taken.pieces.length) {
          cache.splice(found.block, positionsOf(isBlockPiece(piece) ? piece.block : piece, piece.at), omitOf(piece));
          caches.splicedPiece(cache, ids[met]!);
        }
        rows = taken.pieces[met++] ?? cache.length;
        if (piece !== lastPiece || isBlockPiece(piece)) continue;
      }
      if (isBlockPiece(piece)) throw new Error("A block of the plan was not fetched.");
      const first = found ? piece.tokens.length - 1 : 0;
      const keep = found ? undefined : piece.keep;
      if (keep !== undefined || stretches.length === 0 || stretches.at(-1)!.keep !== undefined) stretches.push({ tokens: [], positions: [], counts: [], keep });
      const stretch = stretches.at(-1)!;
      for (let i = first; i < piece.tokens.length; i++) {
        stretch.tokens.push(piece.tokens[i]!);
        stretch.positions.push(piece.at + i);
        stretch.counts.push(rows);
      }
    }
    return {
      cache,
      spliced: rows,
      stretches: stretches.map(({ counts, ...stretch }) => ({ ...stretch, visible: counts.every((count) => count === rows) ? undefined : { counts, shared: rows } })),
      last: cached.get(lastPiece),
    };
  } catch (error) {
    caches.giveBack(cache);
    throw error;
  }
}

/** What is cached of a plan that was made of another: its pieces are parts of the other's blocks, or the other's own. */
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

/** KV that was computed for a plan, and is to be put into the store. */
export type KeptBlock = { readonly key: BlockKey; readonly block: Block };

/**
 * Computes what of a prompt was not spliced. KV that is kept is replaced by what the store will hold of it as soon as
 * it is computed: whatever is computed behind it sees the same, whether it was just computed or comes from the store.
 *
 * @param keptAs the block of rows `[from, to)` of the cache, as the store keeps it
 * @returns the last token's logits, and what is to be kept
 */
export async function computePrompt({ cache, stretches, last }: Prompt, compute: Compute, keptAs: (from: number, to: number) => Block | Promise<Block>): Promise<{ logits: Float32Array; kept: KeptBlock[] }> {
  const kept: KeptBlock[] = [];
  let logits: Float32Array = new Float32Array(0);
  for (const [i, { keep, ...stretch }] of stretches.entries()) {
    const isLast = i === stretches.length - 1;
    if (keep === undefined) {
      logits = await compute({ cache, ...stretch, logits: isLast ? 1 : 0 });
      if (isLast && last) layLast(cache, last.block, stretch.positions);
      continue;
    }
    const row = cache.length;
    await compute({ cache, ...stretch, logits: 0 });
    const block = await keptAs(row, cache.length);
    kept.push({ key: keep, block });
    cache.truncate(row);
    const positions = Int32Array.from(stretch.positions);
    const { tokens } = block;
    if (!isLast) cache.splice(block, positions);
    else {
      cache.splice(block, positions, [[tokens - 1, tokens]]);
      logits = await compute({ cache, tokens: stretch.tokens.slice(-1), positions: stretch.positions.slice(-1), visible: lastOf(stretch.visible), logits: 1 });
      layLast(cache, block, stretch.positions);
    }
  }
  return { logits, kept };
}

/** Replaces the last row, which was computed to have its logits, by what the store holds of it. */
function layLast(cache: Cache, block: Block, positions: readonly number[]): void {
  const at = new Int32Array(block.tokens).fill(positions.at(-1)!);
  cache.truncate(cache.length - 1);
  cache.splice(block, at, [[0, block.tokens - 1]]);
}

function lastOf(visible: Visible | undefined): Visible | undefined {
  return visible && { counts: visible.counts.slice(-1), shared: visible.shared };
}
