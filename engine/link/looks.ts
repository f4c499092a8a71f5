import { isBlockPiece, keptRuns, type BlockSource, type FreshPiece, type Plan } from "../../plan/index.js";
import type { PassPart } from "../backend/backend.js";
import type { Prompt } from "../prompt.js";
import type { Looks } from "./way.js";

/**
 * Tokens at the question's end whose attention is counted: with those of the question's own text, documents that only share
 * its words are chosen (docs/linking.md has the measurement).
 */
const ASKING_TOKENS = 5;

/** What a spliced prompt's fresh tokens compute, and which of them ask: the last ones of pieces that say so, or of the last piece. */
export function questionOf({ pieces }: Plan, { cache, spliced, stretches }: Prompt): { readonly part: PassPart; readonly asks: readonly number[] } {
  const fresh = pieces.flatMap((piece) => (isBlockPiece(piece) ? [] : [piece]));
  const marked = fresh.some(({ asks }) => asks);
  const asking = (piece: FreshPiece, i: number) => (marked ? piece.asks : piece === fresh.at(-1)) && i >= piece.tokens.length - ASKING_TOKENS;
  const asks = fresh.flatMap((piece) => piece.tokens.map((_, i) => (asking(piece, i) ? 1 : 0)));
  const tokens = stretches.flatMap((stretch) => stretch.tokens);
  const counts = stretches.flatMap((stretch) => stretch.visible?.counts ?? stretch.tokens.map(() => spliced));
  const part = { cache, tokens, positions: stretches.flatMap((stretch) => stretch.positions), visible: { counts, shared: spliced }, logits: 0 };
  return { part, asks };
}

/** The weights of the spliced rows, which lie in the plan's order, by loose block. */
export function looksOf({ pieces }: Plan, weights: Float32Array): Looks {
  const looks = new Map<BlockSource, Float32Array>();
  let row = 0;
  for (const piece of pieces) {
    if (!isBlockPiece(piece)) continue;
    const own = new Float32Array(piece.block.tokens.length);
    for (const [start, end] of keptRuns(own.length, piece.omit ?? [])) {
      own.set(weights.subarray(row, row + end - start), start);
      row += end - start;
    }
    if (piece.loose) looks.set(piece.block, own);
  }
  return looks;
}
