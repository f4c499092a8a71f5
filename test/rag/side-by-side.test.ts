import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { sideBySide } from "../../rag/corpus/side-by-side.js";

/** Runs items that take as many turns as they say, and returns what was in work whenever one began. */
async function inWork(items: readonly number[], atOnce: number, weightOf?: (item: number) => number): Promise<number[][]> {
  const seen: number[][] = [];
  const working: number[] = [];
  await sideBySide(
    items,
    atOnce,
    async (item) => {
      working.push(item);
      seen.push([...working]);
      for (let i = 0; i < item; i++) await turn();
      working.splice(working.indexOf(item), 1);
    },
    weightOf,
  );
  expect(working).toEqual([]);
  return seen;
}

test("items begin in order, as many at a time as is said", async () => {
  expect(await inWork([1, 9, 2, 3, 4], 2)).toEqual([[1], [1, 9], [9, 2], [9, 3], [9, 4]]);
});

test("with weights, as many as have at most that weight together", async () => {
  expect(await inWork([5, 4, 3, 2, 1], 6, (item) => Math.min(item, 6))).toEqual([[5], [4], [3], [3, 2], [3, 2, 1]]);
});

test("weights may be any numbers; an item of more than all is processed alone", async () => {
  expect(await inWork([0.1, 0.2, 0.3, 9, 0.4], 0.6, (item) => item)).toEqual([[0.1], [0.1, 0.2], [0.2, 0.3], [9], [0.4]]);
});

test("after a failure no item is started, and those in work end first", async () => {
  const ended: number[] = [];
  const run = sideBySide([3, 1, 2, 4], 2, async (item) => {
    for (let i = 0; i < item; i++) await turn();
    if (item === 1) throw new Error("one");
    ended.push(item);
  });
  await expect(run).rejects.toThrow("one");
  expect(ended).toEqual([3]);
});

test("items that cannot be read fail as a whole, when those in work have ended", async () => {
  const ended: number[] = [];
  function* items() {
    yield 2;
    throw new Error("unreadable");
  }
  const run = sideBySide(items(), 4, async (item) => {
    for (let i = 0; i < item; i++) await turn();
    ended.push(item);
  });
  await expect(run).rejects.toThrow("unreadable");
  expect(ended).toEqual([2]);
});
