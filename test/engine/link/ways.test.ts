import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mostLookedAtLast } from "../../../engine/link/order.js";
import { recomputeHead, recomputeLookedAt } from "../../../engine/link/recompute.js";
import type { Looks } from "../../../engine/link/way.js";
import { isBlockPiece, keptRuns, type Plan, PlanWriter, positionsOf, tokensOf, withoutCache } from "../../../plan/index.js";

/** Documents between a system text and a question; tokens are numbered consecutively, so that each shows its original place. */
const plans: fc.Arbitrary<Plan> = fc
  .array(fc.record({ length: fc.integer({ min: 1, max: 9 }), gap: fc.nat(2), loose: fc.boolean() }), { maxLength: 5 })
  .map((documents) => {
    let next = 0;
    const numbered = (length: number) => Array.from({ length }, () => next++);
    const writer = new PlanWriter().block({ tokens: numbered(3) });
    for (const { length, gap, loose } of documents) {
      const tokens = numbered(length);
      writer.block({ tokens, ...(gap && { offsets: tokens.map((_, i) => i * (gap + 1)) }) }, loose ? { loose: true } : {});
    }
    return writer.fresh(numbered(4), { asks: true }).plan;
  });

const looksOf = (plan: Plan, weight: (token: number) => number): Looks =>
  new Map(
    plan.pieces.flatMap((piece) =>
      isBlockPiece(piece) && piece.loose ? [[piece.block, Float32Array.from(piece.block.tokens, weight)]] : [],
    ),
  );

/** Each token with its position and whether it is computed, in the plan's order. */
function laid({ pieces }: Plan): { token: number; position: number; fresh: boolean }[] {
  return pieces.flatMap((piece) => {
    const source = isBlockPiece(piece) ? piece.block : piece;
    const positions = positionsOf(source, piece.at);
    const runs = keptRuns(source.tokens.length, isBlockPiece(piece) ? (piece.omit ?? []) : []);
    return runs.flatMap(([start, end]) =>
      Array.from({ length: end - start }, (_, i) => ({
        token: source.tokens[start + i]!,
        position: positions[start + i]!,
        fresh: !isBlockPiece(piece),
      })),
    );
  });
}

const places = (plan: Plan) => laid(plan).map(({ token, position }) => [token, position]);
const looseTokens = (plan: Plan) => plan.pieces.flatMap((piece) => (isBlockPiece(piece) && piece.loose ? piece.block.tokens : []));
const question = 4;

describe("recomputing", () => {
  test("leaves every token at its position and in order, and computes those with the most attention", () => {
    fc.assert(
      fc.property(
        plans,
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.func(fc.float({ min: 0, max: 1, noNaN: true })),
        (plan, share, weight) => {
          const looks = looksOf(plan, (token) => weight(token));
          const linked = recomputeLookedAt(share).link(plan, looks);
          expect(places(linked)).toEqual(places(plan));
          const loose = looseTokens(plan);
          const fresh = laid(linked)
            .slice(0, -question)
            .filter((each) => each.fresh)
            .map(({ token }) => token);
          expect(fresh.length).toBe(Math.floor(share * loose.length + 1e-6));
          const least = Math.min(...fresh.map((token) => Math.fround(weight(token))));
          for (const token of loose.filter((each) => !fresh.includes(each))) expect(Math.fround(weight(token))).toBeLessThanOrEqual(least);
        },
      ),
    );
  });

  test("nothing equals plain splicing; recomputing everything computes all loose blocks as a full prefill does", () => {
    fc.assert(
      fc.property(plans, (plan) => {
        const looks = looksOf(plan, () => 1);
        expect(recomputeLookedAt(0).link(plan, looks)).toEqual(plan);
        const all = recomputeLookedAt(1).link(plan, looks);
        expect(all.pieces.filter((piece) => isBlockPiece(piece) && piece.loose)).toEqual([]);
        expect(tokensOf(all)).toEqual(tokensOf(plan));
        expect(places(withoutCache(all))).toEqual(places(withoutCache(plan)));
      }),
    );
  });

  test("heads computes the first tokens of each loose block", () => {
    fc.assert(
      fc.property(plans, fc.nat(4), (plan, head) => {
        const fresh = laid(recomputeHead(head).link(plan, new Map()))
          .slice(0, -question)
          .filter((each) => each.fresh)
          .map(({ token }) => token);
        expect(fresh).toEqual(
          plan.pieces.flatMap((piece) => (isBlockPiece(piece) && piece.loose ? piece.block.tokens.slice(0, head) : [])),
        );
      }),
    );
  });
});

describe("ordering by attention", () => {
  test("keeps blocks whole, moves only loose ones, and puts the one with most attention (first tokens aside) last in its run", () => {
    fc.assert(
      fc.property(plans, fc.func(fc.integer({ min: 0, max: 100 })), (plan, weight) => {
        const looks = looksOf(plan, (token) => weight(token));
        const linked = mostLookedAtLast.link(plan, looks);
        expect(tokensOf(linked).toSorted((a, b) => a - b)).toEqual(tokensOf(plan));
        expect(linked.pieces.length).toBe(plan.pieces.length);
        linked.pieces.forEach((piece, i) => {
          const before = plan.pieces[i]!;
          if (isBlockPiece(before) && before.loose) return;
          expect(piece).toEqual(before);
        });
        const weightOf = (i: number) =>
          isBlockPiece(linked.pieces[i]!) ? linked.pieces[i].block.tokens.slice(2).reduce((sum, token) => sum + weight(token), 0) : 0;
        linked.pieces.forEach((piece, i) => {
          const next = linked.pieces[i + 1];
          const bothLoose = isBlockPiece(piece) && piece.loose && next && isBlockPiece(next) && next.loose;
          if (bothLoose) expect(weightOf(i)).toBeLessThanOrEqual(weightOf(i + 1));
        });
      }),
    );
  });
});
