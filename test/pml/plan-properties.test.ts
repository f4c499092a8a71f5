import fc from "fast-check";
import { describe as suite, expect, test } from "vitest";
import { isBlockPiece, type Piece } from "../../plan/index.js";
import { blocksOf, compilePrompt, type Compiled, hasErrors, type Layout } from "../../pml/index.js";
import { anyCase } from "./cases.js";
import { layoutOf } from "./compiling.js";

/** Positions of a piece's tokens, omitted ones left out. */
function positionsOf(piece: Piece): number[] {
  if (!isBlockPiece(piece)) return piece.tokens.map((_, i) => piece.at + i);
  const { block, at, omit = [] } = piece;
  const kept = block.tokens.map((_, i) => i).filter((i) => !omit.some(([start, end]) => i >= start && i < end));
  return kept.map((i) => at + (block.offsets?.[i] ?? i));
}

function forEveryPlan(check: (compiled: Compiled, layout: Layout) => void): void {
  fc.assert(
    fc.property(anyCase, ({ schema, prompt }) => {
      const layout = layoutOf(schema);
      const { compiled, diagnostics } = compilePrompt(layout, prompt);
      expect(hasErrors(diagnostics)).toBe(false);
      if (compiled) check(compiled, layout);
    }),
    { numRuns: 500 },
  );
}

suite("every plan", () => {
  test("has no position twice, and none beyond its end", () => {
    forEveryPlan(({ plan, end }) => {
      const positions = plan.pieces.flatMap(positionsOf);
      expect(new Set(positions).size).toBe(positions.length);
      expect(Math.max(...positions)).toBe(end - 1);
      expect(Math.min(...positions)).toBeGreaterThanOrEqual(0);
    });
  });

  test("has ascending positions in each piece", () => {
    forEveryPlan(({ plan }) => {
      for (const positions of plan.pieces.map(positionsOf)) expect(positions).toEqual(positions.toSorted((a, b) => a - b));
    });
  });

  test("ends with a fresh piece, which starts at the schema's length or before", () => {
    forEveryPlan(({ plan, end }, { length }) => {
      const last = plan.pieces.at(-1);
      expect(last && !isBlockPiece(last) && last.tokens.length).toBeGreaterThan(0);
      expect(last?.at).toBeLessThanOrEqual(length);
      expect(last && Math.max(...positionsOf(last))).toBe(end - 1);
    });
  });

  test("takes its blocks from those that are computed ahead", () => {
    forEveryPlan(({ plan }, layout) => {
      const ahead = new Set(blocksOf(layout));
      for (const piece of plan.pieces) if (isBlockPiece(piece)) expect(ahead.has(piece.block)).toBe(true);
    });
  });

  test("counts each token of its KV once, as cached or as computed", () => {
    forEveryPlan(({ plan, cachedTokens, computedTokens }) => {
      expect(cachedTokens + computedTokens).toBe(plan.pieces.flatMap(positionsOf).length);
    });
  });

  test("has its segments in the order of positions, and they are all of its text", () => {
    forEveryPlan(({ plan, segments }) => {
      const positions = segments.flatMap(({ at, tokens }) => tokens.map((_, i) => at + i));
      expect(positions).toEqual(plan.pieces.flatMap(positionsOf).toSorted((a, b) => a - b));
      for (const cached of [true, false]) {
        const pieces = plan.pieces.filter((piece) => isBlockPiece(piece) === cached);
        const own = segments.filter((segment) => segment.cached === cached).flatMap(({ tokens }) => tokens);
        expect(own.toSorted()).toEqual(pieces.flatMap((piece) => (isBlockPiece(piece) ? piece.block : piece).tokens).toSorted());
      }
    });
  });

  test("puts each token of the included modules where the layout has it", () => {
    forEveryPlan(({ plan }, layout) => {
      const { tokenizer } = layout.options;
      const tokens = plan.pieces.flatMap((piece) => {
        const all = isBlockPiece(piece) ? piece.block.tokens : piece.tokens;
        const kept = isBlockPiece(piece) ? all.filter((_, i) => !piece.omit?.some(([start, end]) => i >= start && i < end)) : all;
        return kept.map((token, i) => ({ word: tokenizer.decode([token]).trim(), position: positionsOf(piece)[i] }));
      });
      const words = tokens.filter(({ word }) => /^w\d+$/.test(word)).toSorted((a, b) => (a.position ?? 0) - (b.position ?? 0));
      // words are numbered as they are written: but for unions, whose members share positions, so are the positions
      const numbers = words.map(({ word }) => Number(word.slice(1)));
      expect(new Set(numbers).size).toBe(numbers.length);
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    });
  });
});
