import { endOf, type BlockPiece, type Piece } from "../../plan/index.js";
import { isLoose } from "./linked-plan.js";
import type { Looks, Way } from "./way.js";

/**
 * Moves the loose blocks that the question looks at most next to it. Blocks change places within runs of loose blocks
 * that stand side by side; what is not loose, and what has link tokens between, stays.
 */
export const mostLookedAtLast: Way = {
  looks: true,
  link({ pieces }, looks) {
    const moved: Piece[] = [];
    for (let i = 0; i < pieces.length; ) {
      let end = i;
      while (end < pieces.length && isLoose(pieces[end]!) && (end === i || endOf(pieces[end - 1]!) === pieces[end]!.at)) end++;
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

/** The first tokens draw attention whatever they say, and tell nothing of the block (StreamingLLM, Xiao et al. 2024). */
const SINK_TOKENS = 2;

function lookedAt(weights: Float32Array): number {
  return weights.subarray(SINK_TOKENS).reduce((sum, weight) => sum + weight, 0);
}
