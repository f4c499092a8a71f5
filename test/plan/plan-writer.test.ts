import fc from "fast-check";
import { expect, test } from "vitest";
import { type BlockSource, endOf, isBlockPiece, PlanWriter, positionsOf } from "../../plan/index.js";

/** Blocks with and without gaps between their tokens. */
const blocks: fc.Arbitrary<BlockSource> = fc.array(fc.nat(3), { minLength: 1, maxLength: 6 }).map((gaps) => {
  let next = 0;
  return { tokens: gaps.map((_, i) => i), offsets: gaps.map((gap) => (next += gap + 1) - 1) };
});
const pieces = fc.array(fc.oneof(blocks, fc.array(fc.nat(9), { maxLength: 5 })), { maxLength: 8 });

const written = (parts: readonly (BlockSource | number[])[]) => {
  const writer = new PlanWriter();
  for (const part of parts) Array.isArray(part) ? writer.fresh(part) : writer.block(part);
  return writer;
};

test("each piece begins where the previous one ends, including its gaps, and no position is used twice", () => {
  fc.assert(
    fc.property(pieces, (parts) => {
      const writer = written(parts);
      let end = 0;
      for (const piece of writer.pieces) {
        expect(piece.at).toBe(end);
        const positions = positionsOf(isBlockPiece(piece) ? piece.block : piece, piece.at);
        end = positions.at(-1)! + 1;
        expect(endOf(piece)).toBe(end);
      }
      expect(writer.at).toBe(end);
    }),
  );
});

test("pieces laid elsewhere move together", () => {
  fc.assert(
    fc.property(pieces, fc.nat(50), (parts, start) => {
      const { pieces } = written(parts);
      const moved = new PlanWriter().moveTo(start).moved(pieces).pieces;
      expect(moved.map(({ at }) => at - start)).toEqual(pieces.map(({ at }) => at));
    }),
  );
});

test("an empty list of tokens adds no piece", () => {
  expect(new PlanWriter().fresh([]).plan).toEqual({ pieces: [] });
});
