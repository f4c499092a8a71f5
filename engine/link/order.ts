import { type BlockPiece, endOf, type Piece } from "../../plan/index.js";
import { isMovable } from "./linked-plan.js";
import type { Looks, Way } from "./way.js";

/**
 * Moves the loose blocks that the question attends to most next to it. Blocks are reordered within runs of adjacent loose
 * blocks; blocks that are not loose, or are loose in place, or have link tokens between them, stay.
 */
export const mostLookedAtLast: Way = {
  looks: true,
  link({ pieces }, looks) {
    const moved: Piece[] = [];
    for (let i = 0; i < pieces.length; ) {
      let end = i;
      while (end < pieces.length && isMovable(pieces[end]!) && (end === i || endOf(pieces[end - 1]!) === pieces[end]!.at)) end++;
      if (end === i) moved.push(pieces[i++]!);
      else {
        moved.push(...sorted(pieces.slice(i, end) as BlockPiece[], looks));
        i = end;
      }
    }
    return { pieces: moved };
  },
};

function sorted(run: readonly BlockPiece[], looks: Looks): BlockPiece[] {
  let at = run[0]!.at;
  const weights = run.map(({ block }) => lookedAt(looks.get(block)!));
  const order = run.map((_, i) => i).sort((a, b) => weights[a]! - weights[b]! || a - b);
  return order.map((i) => {
    const piece = { ...run[i]!, at };
    at = endOf(piece);
    return piece;
  });
}

/** The first tokens attract attention whatever they say, and reveal nothing about the block (StreamingLLM, Xiao et al. 2024). */
const SINK_TOKENS = 2;

function lookedAt(weights: Float32Array): number {
  return weights.subarray(SINK_TOKENS).reduce((sum, weight) => sum + weight, 0);
}
