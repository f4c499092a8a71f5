import { type BlockSource, isBlockPiece, keptRuns, type Piece, type Plan } from "../../plan/index.js";
import type { PassPart } from "../backend/backend.js";
import type { SplicedPlan } from "../prefill.js";
import type { Looks } from "./way.js";

/**
 * Tokens at the question's end whose attention counts in full, and the weight of its other tokens' attention. The answer
 * begins at the question's end; if the question's own text counted as much, documents that merely share its words would be
 * chosen (docs/linking.md has the measurements).
 */
const ASKING_TOKENS = 5;
const OTHERS_COUNT = 0.1;

/**
 * The fresh tokens of a spliced prompt, and how much each counts as the question: those of pieces marked as asking, or of the last piece.
 * @param cached pieces that were spliced: they do not count
 */
export function questionOf(
  { pieces }: Plan,
  cached: ReadonlyMap<Piece, unknown>,
  { cache, spliced, stretches }: SplicedPlan,
): { readonly part: PassPart; readonly asks: readonly number[] } {
  const fresh = pieces.flatMap((piece) => (isBlockPiece(piece) || cached.has(piece) ? [] : [piece]));
  const marked = fresh.some(({ asks }) => asks);
  const asking = fresh.filter((piece) => (marked ? piece.asks === true : piece === fresh.at(-1)));
  let left = asking.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const weight = () => (left-- > ASKING_TOKENS ? OTHERS_COUNT : 1);
  const asks = fresh.flatMap((piece) => piece.tokens.map(() => (asking.includes(piece) ? weight() : 0)));
  const tokens = stretches.flatMap((stretch) => stretch.tokens);
  const counts = stretches.flatMap((stretch) => stretch.visible?.counts ?? stretch.tokens.map(() => spliced));
  const part = {
    cache,
    tokens,
    positions: stretches.flatMap((stretch) => stretch.positions),
    visible: { counts, shared: spliced },
    logits: 0,
  };
  return { part, asks };
}

/** The weights of the spliced rows, which are in the plan's order, by loose block. */
export function looksOf({ pieces }: Plan, cached: ReadonlyMap<Piece, unknown>, weights: Float32Array): Looks {
  const looks = new Map<BlockSource, Float32Array>();
  let row = 0;
  for (const piece of pieces) {
    if (!isBlockPiece(piece)) {
      if (cached.has(piece)) row += piece.tokens.length;
      continue;
    }
    const own = new Float32Array(piece.block.tokens.length);
    for (const [start, end] of keptRuns(own.length, piece.omit ?? [])) {
      own.set(weights.subarray(row, row + end - start), start);
      row += end - start;
    }
    if (piece.loose) looks.set(piece.block, own);
  }
  return looks;
}
