import { keptRuns, type Range } from "./ranges.js";

/** Names a block in a store: a hash of all that its KV depends on. */
export type BlockKey = string;

/**
 * The contract between those who write prompts (pml, rag) and the engine that answers them.
 *
 * A plan is the ordered pieces of one prompt. Order says what sees what: a fresh token sees every earlier piece;
 * a block's tokens see their own block alone. Positions are explicit and independent of order, so that one engine
 * serves Prompt Cache (Gim et al. 2024: reserved positions, gaps, unions) and KVLink (Yang et al. 2025: documents
 * side by side, joined by link tokens).
 */

/**
 * One run of tokens that is encoded by itself. It has no place in any prompt.
 *
 * `offsets[i]` is the position of token i relative to the place where the block is laid; ascending, and
 * `0, 1, 2, ...` when left out. Gaps stand where other pieces have their positions (a nested module, a union).
 */
export type BlockSource = {
  readonly tokens: readonly number[];
  readonly offsets?: readonly number[];
  /** Tokens that the block saw when it was encoded, at the positions before it: a shared prefix. They are not part of it. */
  readonly after?: readonly number[];
  /** Encoded with the model's encoding adapter, where it has one. */
  readonly adapted?: true;
};

/**
 * Cached KV: the block's token i takes position `at + offsets[i]`. Tokens within `omit` are left out of the KV.
 *
 * A `loose` block stands among others that it did not see when it was encoded, and would have seen in one prompt: a
 * document. A way of linking may compute some of its tokens again, or change its place among loose neighbours. What is
 * not loose stays as it is.
 */
export type BlockPiece = { readonly block: BlockSource; readonly at: number; readonly omit?: readonly Range[]; readonly loose?: true };

/**
 * Computed now: token i takes position `at + i`.
 *
 * With `keep`, its KV is kept in the store under that key, K without position like a block's: it is spliced where the
 * store has it, and computed and put where it has not. Unlike a block it was computed in the sight of all earlier
 * pieces, so whoever names the key vouches that it stands for the tokens and for all that they saw (a hash chain over a
 * conversation, CachedAttention, Gao et al. 2024).
 */
export type FreshPiece = {
  readonly tokens: readonly number[];
  readonly at: number;
  readonly keep?: BlockKey;
  /** What these tokens attend to says which loose tokens matter: a question. */
  readonly asks?: true;
};

export type Piece = BlockPiece | FreshPiece;

/** The last piece is fresh and not empty: the first answer token is read from its last token. */
export type Plan = { readonly pieces: readonly Piece[] };

export function isBlockPiece(piece: Piece): piece is BlockPiece {
  return "block" in piece;
}

/**
 * The same prompt with nothing cached: every token is fresh, and sees all before it. This is the full prefill that
 * splicing is compared with.
 */
export function withoutCache(plan: Plan): Plan {
  return { pieces: plan.pieces.flatMap((piece): readonly FreshPiece[] => (isBlockPiece(piece) ? freshRuns(piece) : [piece])) };
}

/** A block's kept tokens as fresh pieces, one for each run of neighbouring positions. */
function freshRuns({ block: { tokens, offsets }, at, omit = [] }: BlockPiece): FreshPiece[] {
  const runs: { tokens: number[]; at: number }[] = [];
  tokens.forEach((token, i) => {
    if (omit.some(([start, end]) => start <= i && i < end)) return;
    const position = at + (offsets?.[i] ?? i);
    const run = runs.at(-1);
    if (run && run.at + run.tokens.length === position) run.tokens.push(token);
    else runs.push({ tokens: [token], at: position });
  });
  return runs;
}

/** The prompt as one run of tokens, in the plan's order, without those that are left out. */
export function tokensOf(plan: Plan): number[] {
  return withoutCache(plan).pieces.flatMap((piece) => (isBlockPiece(piece) ? [] : piece.tokens));
}

/** Positions of a piece's tokens, laid at a place. */
export function positionsOf({ tokens, offsets }: BlockSource, at: number): Int32Array {
  return Int32Array.from({ length: tokens.length }, (_, i) => at + (offsets?.[i] ?? i));
}

/** The position behind the last token that a piece keeps. */
export function endOf(piece: Piece): number {
  if (!isBlockPiece(piece)) return piece.at + piece.tokens.length;
  const { tokens, offsets } = piece.block;
  const last = keptRuns(tokens.length, piece.omit ?? []).at(-1)?.[1] ?? 0;
  return last === 0 ? piece.at : piece.at + (offsets?.[last - 1] ?? last - 1) + 1;
}
