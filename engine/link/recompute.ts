import { type BlockPiece, type FreshPiece, keptRuns, type Piece, type Plan, type Range } from "../../plan/index.js";
import { isLoose } from "./linked-plan.js";
import type { Way } from "./way.js";

/**
 * Recomputes the tokens of loose blocks that the question attends to most, `share` of all of them (rounded down): in place,
 * seeing everything before them. (CacheBlend, Yao et al. 2025, recomputes where K changes most; the question's attention is
 * the better guide: docs/linking.md.)
 */
export function recomputeLookedAt(share: number): Way {
  return {
    looks: true,
    link(plan, looks) {
      const weights = plan.pieces.flatMap((piece, i) =>
        isLoose(piece) ? keptTokens(piece).map((token) => ({ i, token, weight: looks.get(piece.block)![token]! })) : [],
      );
      // For equal weights the earlier token, so that the choice depends on nothing else.
      const chosen = weights
        .toSorted((a, b) => b.weight - a.weight || a.i - b.i || a.token - b.token)
        .slice(0, Math.floor(share * weights.length + ROUNDING));
      const tokensOf: number[][] = plan.pieces.map(() => []);
      for (const { i, token } of chosen) tokensOf[i]!.push(token);
      return recomputed(plan, (_, i) => tokensOf[i]!);
    },
  };
}

/** A share of all means all, whatever rounding does to the product. */
const ROUNDING = 1e-6;

/** Recomputes the first tokens of each loose block (LegoLink of EPIC, Hu et al. 2025). */
export function recomputeHead(tokens: number): Way {
  return { looks: false, link: (plan) => recomputed(plan, (piece) => keptTokens(piece).slice(0, tokens)) };
}

/** The plan with some tokens of its loose blocks made fresh, at the same positions and in the same order. */
function recomputed({ pieces }: Plan, chosen: (piece: BlockPiece, i: number) => readonly number[]): Plan {
  return { pieces: pieces.flatMap((piece, i) => (isLoose(piece) ? interleaved(piece, runsOf(chosen(piece, i))) : [piece])) };
}

/**
 * A block split around the runs to recompute: before each run the part that it sees, after it the rest. The order determines
 * what sees what, so a run sees its own block up to its own place.
 */
function interleaved(piece: BlockPiece, runs: readonly Range[]): Piece[] {
  const { block, at, omit = [] } = piece;
  const { tokens, offsets } = block;
  const pieces: Piece[] = [];
  let from = 0;
  const keep = (to: number) => {
    const left: Range[] = [...omit, [0, from], [to, tokens.length]].filter(([start, end]) => start < end) as Range[];
    if (keptRuns(tokens.length, left).length > 0) pieces.push({ ...piece, ...(left.length > 0 && { omit: left }) });
  };
  for (const [start, end] of runs) {
    keep(start);
    for (const [first, last] of neighbours(start, end, offsets)) {
      pieces.push({ tokens: tokens.slice(first, last), at: at + (offsets?.[first] ?? first) } satisfies FreshPiece);
    }
    from = end;
  }
  keep(tokens.length);
  return pieces;
}

/** The parts of a run of tokens whose positions are consecutive. */
function neighbours(start: number, end: number, offsets: readonly number[] | undefined): Range[] {
  const parts: [number, number][] = [];
  for (let i = start; i < end; i++) {
    const last = parts.at(-1);
    if (last && (!offsets || offsets[i] === offsets[i - 1]! + 1)) last[1] = i + 1;
    else parts.push([i, i + 1]);
  }
  return parts;
}

/** Runs of adjacent tokens. */
function runsOf(tokens: readonly number[]): Range[] {
  const runs: [number, number][] = [];
  for (const token of tokens.toSorted((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last?.[1] === token) last[1]++;
    else runs.push([token, token + 1]);
  }
  return runs;
}

function keptTokens({ block, omit = [] }: BlockPiece): number[] {
  return keptRuns(block.tokens.length, omit).flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));
}
