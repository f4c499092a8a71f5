import { expect, test } from "vitest";
import { Expectation } from "../../fleet/expectation.js";

/** Measured speeds of both sides, with one worker. */
function measured({ here, there }: { readonly here: number; readonly there: number }): Expectation {
  const expected = new Expectation();
  expected.workers = 1;
  expected.measure("here", 1000 * here, 1000);
  expected.measure("there", 1000 * there, 1000);
  return expected;
}

const isSoonerThere = (expected: Expectation, tokens: number) => expected.there_ms(tokens) < expected.here_ms(tokens);

test("before any measurement, the side with less to do is expected to have a block sooner", () => {
  const expected = new Expectation();
  expected.workers = 1;
  expect(isSoonerThere(expected, 200)).toBe(false); // it would have to be fetched
  expected.inHand.here = 200;
  expect(isSoonerThere(expected, 200)).toBe(true);
  expected.inHand.there = 400;
  expect(isSoonerThere(expected, 200)).toBe(false);
});

test("the expected time of a block depends on both speeds and the time to fetch it", () => {
  const expected = measured({ here: 0.5, there: 2 });
  expect(expected.here_ms(200)).toBe(400);
  expect(expected.encodingThere_ms(200)).toBe(100);
  expect(expected.there_ms(200)).toBe(150); // 50 ms before fetching was measured
  expect(isSoonerThere(measured({ here: 2, there: 2 }), 200)).toBe(false);
});

test("workers share the work in progress and earlier jobs; none is faster than one worker's time for a block", () => {
  const expected = measured({ here: 1, there: 1 });
  expected.workers = 4;
  expect(expected.encodingThere_ms(200)).toBe(200);
  expected.inHand.there = 1_000;
  expect(expected.encodingThere_ms(200)).toBe(300);
  expected.waiting = 2;
  expect(expected.encodingThere_ms(200)).toBe(400);
});

test("the first measurement counts fully, each further one with a weight of 0.3", () => {
  const expected = measured({ here: 1, there: 1 });
  expected.measure("here", 2000, 1000);
  expect(expected.here_ms(130)).toBeCloseTo(100);
  expected.measureTransfer(150);
  expect(expected.there_ms(0)).toBeCloseTo(80);
  expected.measureTransfer(-1_000); // a block that arrived sooner than expected
  expect(expected.there_ms(0)).toBeCloseTo(56);
});
