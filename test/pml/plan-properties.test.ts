import fc from "fast-check";
import { expect, describe as suite, test } from "vitest";
import { isBlockPiece, type Piece } from "../../plan/index.js";
import { blocksOf, type Compiled, compilePrompt, hasErrors, type Layout } from "../../pml/index.js";
import { anyCase } from "../support/pml/cases.js";
import { layoutOf } from "../support/pml/compiling.js";

/** A piece's tokens that are not omitted. */
function keptOf(piece: Piece): { readonly token: number; readonly position: number }[] {
  const { tokens, offsets } = isBlockPiece(piece) ? piece.block : { tokens: piece.tokens, offsets: undefined };
  const omit = (isBlockPiece(piece) && piece.omit) || [];
  const all = tokens.map((token, i) => ({ token, position: piece.at + (offsets?.[i] ?? i) }));
  return all.filter((_, i) => !omit.some(([start, end]) => i >= start && i < end));
}

function positionsOf(piece: Piece): number[] {
  return keptOf(piece).map(({ position }) => position);
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
  test("has no position twice and none beyond its end", () => {
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

  test("ends with a fresh piece, which starts at the schema's length or earlier", () => {
    forEveryPlan(({ plan, end }, { length }) => {
      const last = plan.pieces.at(-1);
      expect(last && !isBlockPiece(last) && last.tokens.length).toBeGreaterThan(0);
      expect(last?.at).toBeLessThanOrEqual(length);
      expect(last && Math.max(...positionsOf(last))).toBe(end - 1);
    });
  });

  test("uses only blocks that are computed ahead", () => {
    forEveryPlan(({ plan }, layout) => {
      const ahead = new Set(blocksOf(layout));
      for (const piece of plan.pieces) if (isBlockPiece(piece)) expect(ahead.has(piece.block)).toBe(true);
    });
  });

  test("counts each token once, as cached or as computed", () => {
    forEveryPlan(({ plan, cachedTokens, computedTokens }) => {
      expect(cachedTokens + computedTokens).toBe(plan.pieces.flatMap(positionsOf).length);
    });
  });

  test("has its segments in the order of positions, and they make up all of its text", () => {
    forEveryPlan(({ plan, segments }) => {
      const positions = segments.flatMap(({ at, tokens }) => tokens.map((_, i) => at + i));
      expect(positions).toEqual(plan.pieces.flatMap(positionsOf).toSorted((a, b) => a - b));
      for (const cached of [true, false]) {
        const pieces = plan.pieces.filter((piece) => isBlockPiece(piece) === cached);
        const own = segments.filter((segment) => segment.cached === cached).flatMap(({ tokens }) => tokens);
        expect(own.toSorted()).toEqual(
          pieces
            .flatMap(keptOf)
            .map(({ token }) => token)
            .toSorted(),
        );
      }
    });
  });

  test("puts each token of the included modules where the layout does", () => {
    forEveryPlan(({ plan }, layout) => {
      const { tokenizer } = layout.options;
      const tokens = plan.pieces.flatMap((piece) =>
        keptOf(piece).map(({ token, position }) => ({ word: tokenizer.decode([token]).trim(), position })),
      );
      const words = tokens.filter(({ word }) => /^w\d+$/.test(word)).toSorted((a, b) => a.position - b.position);
      // words are numbered in writing order, and so are positions, except in unions, whose members share them
      const numbers = words.map(({ word }) => Number(word.slice(1)));
      expect(new Set(numbers).size).toBe(numbers.length);
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    });
  });
});
