import { keptRuns, type Range } from "./ranges.js";

/** Identifies a block in a store: a hash of everything that its KV depends on. */
export type BlockKey = string;

/**
 * The contract between those that write prompts (pml, rag) and the engine that answers them.
 *
 * A plan is the ordered pieces of one prompt. The order determines what sees what: a fresh token sees every earlier piece,
 * a block's tokens see only their own block. Positions are explicit and independent of the order, so that one engine
 * serves Prompt Cache (Gim et al. 2024: reserved positions, gaps, unions) and KVLink (Yang et al. 2025: documents
 * one after the other, joined by link tokens).
 */

/**
 * One run of tokens that is encoded by itself, independent of its place in any prompt.
 *
 * `offsets[i]` is the position of token i relative to where the block is laid; ascending, and `0, 1, 2, ...` if omitted.
 * Gaps are where other pieces have their positions (a nested module, a union).
 */
export type BlockSource = {
  readonly tokens: readonly number[];
  readonly offsets?: readonly number[];
  /** Tokens that the block saw when it was encoded, at the positions before it: a shared prefix. They are not part of the block. */
  readonly after?: readonly number[];
  /** Encoded with the model's encoding adapter, if it has one. */
  readonly adapted?: true;
};

/**
 * Cached KV: the block's token i takes position `at + offsets[i]`. Tokens within `omit` are omitted from the KV.
 *
 * A `loose` block stands among others that it did not see when it was encoded, but would have seen in a single prompt: a
 * document, a module. A way of linking may recompute some of its tokens, and may move it among its loose neighbours unless
 * it is loose `in place`, which means that the prompt's author chose the order. Other blocks stay as they are.
 */
export type BlockPiece = {
  readonly block: BlockSource;
  readonly at: number;
  readonly omit?: readonly Range[];
  readonly loose?: true | "in place";
};

/**
 * Computed now: token i takes position `at + i`.
 *
 * With `keep`, its KV is stored under that key, with K stored without position like a block's. If the store has it, it is
 * spliced; if not, it is computed and put. Unlike a block, it was computed with all earlier pieces in view, so the caller
 * guarantees that the key stands for the tokens and for everything they saw (a hash chain over a conversation,
 * CachedAttention, Gao et al. 2024).
 */
export type FreshPiece = {
  readonly tokens: readonly number[];
  readonly at: number;
  readonly keep?: BlockKey;
  /**
   * The caller knows that the prompt's loose blocks are linked. `now`: the key also stands for the way of linking and for
   * everything that the choice of tokens depends on, so the KV is computed in each prompt and put. `before`: an earlier prompt
   * put it, under that prompt's choice of tokens; it is used if the store has it, and never put. In a linked prompt nothing
   * else is kept.
   */
  readonly linked?: "now" | "before";
  /** What these tokens attend to determines which loose tokens matter: a question. */
  readonly asks?: true;
};

/** Part of a prompt: a block that is spliced, or tokens that are computed with the prompt. */
export type Piece = BlockPiece | FreshPiece;

/** The last piece is fresh and not empty: the first answer token is read from its last token. */
export type Plan = { readonly pieces: readonly Piece[] };

/** Whether a piece is a block. */
export function isBlockPiece(piece: Piece): piece is BlockPiece {
  return "block" in piece;
}

/**
 * The same prompt with nothing cached: every token is fresh and sees all tokens before it. This is the full prefill that
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

/** The prompt as one run of tokens, in the plan's order, without omitted tokens. */
export function tokensOf(plan: Plan): number[] {
  return withoutCache(plan).pieces.flatMap((piece) => (isBlockPiece(piece) ? [] : piece.tokens));
}

/** Positions of a piece's tokens when it is laid at `at`. */
export function positionsOf({ tokens, offsets }: BlockSource, at: number): Int32Array {
  return Int32Array.from({ length: tokens.length }, (_, i) => at + (offsets?.[i] ?? i));
}

/** The position after the last token that a piece keeps. */
export function endOf(piece: Piece): number {
  if (!isBlockPiece(piece)) return piece.at + piece.tokens.length;
  const { tokens, offsets } = piece.block;
  const last = keptRuns(tokens.length, piece.omit ?? []).at(-1)?.[1] ?? 0;
  return last === 0 ? piece.at : piece.at + (offsets?.[last - 1] ?? last - 1) + 1;
}
