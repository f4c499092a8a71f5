import { expect, test } from "vitest";
import { questionOf } from "../../../engine/link/index.js";
import { type FreshPiece, type Plan, PlanWriter } from "../../../plan/index.js";

const system = { tokens: [1, 2, 3] };
const question = [11, 12, 13, 14, 15, 16, 17, 18];

/** How much each fresh token counts as the question. */
function asks(plan: Plan): readonly number[] {
  const stretches = plan.pieces.flatMap((piece) => ("tokens" in piece ? [{ tokens: piece.tokens, positions: piece.tokens }] : []));
  return questionOf(plan, new Map(), { cache: undefined, spliced: 3, stretches } as never).asks;
}

const laid = (...pieces: readonly [readonly number[], Pick<FreshPiece, "asks">][]) =>
  pieces.reduce((writer, [tokens, marks]) => writer.fresh(tokens, marks), new PlanWriter().block(system)).plan;

test("the last five tokens of the question count in full and the others a tenth, in however many pieces it is laid out", () => {
  const whole = asks(laid([question, { asks: true }]));
  expect(whole).toEqual([0.1, 0.1, 0.1, 1, 1, 1, 1, 1]);
  for (let cut = 1; cut < question.length; cut++) {
    expect(asks(laid([question.slice(0, cut), { asks: true }], [question.slice(cut), { asks: true }]))).toEqual(whole);
  }
});

test("tokens of other pieces do not count; if no piece is marked, the last one is the question", () => {
  expect(asks(laid([[21, 22], {}], [question.slice(0, 2), { asks: true }], [[23], {}]))).toEqual([0, 0, 1, 1, 0]);
  expect(asks(laid([[21, 22], {}], [question.slice(0, 2), {}]))).toEqual([0, 0, 1, 1]);
});
