import { describe, expect, test } from "vitest";
import { allocateBlock, type Block } from "../../engine/kv/block.js";
import { KvCache } from "../../engine/kv/cache.js";
import { createRotaryTable } from "../../engine/kv/rotary.js";

const HEAD_SIZE = 8;
const SHAPE = { layers: 2, width: 3 * HEAD_SIZE };
const table = createRotaryTable(100, HEAD_SIZE, 10_000);

function randomBlock(tokens: number): Block {
  const block = allocateBlock(SHAPE, tokens);
  for (const values of [block.k, block.v]) values.forEach((_, i) => (values[i] = Math.random() - 0.5));
  return block;
}

function cacheOf(...parts: readonly { block: Block; at: number }[]): KvCache {
  const cache = new KvCache(SHAPE, table);
  for (const { block, at } of parts) cache.splice(block, (token) => at + token);
  return cache;
}

const rowsOf = (cache: KvCache) => Array.from({ length: SHAPE.layers }, (_, layer) => cache.past(layer));

describe("a cache's rows", () => {
  test("extracted, are the block that was spliced", () => {
    const [first, second] = [randomBlock(5), randomBlock(4)];
    const cache = cacheOf({ block: first, at: 2 }, { block: second, at: 40 });
    const extracted = cache.extract(5, 9, Int32Array.of(40, 41, 42, 43));
    expect(extracted.v).toEqual(second.v);
    second.k.forEach((value, i) => expect(Math.abs(extracted.k[i]! - value)).toBeLessThan(1e-6));
  });

  test("dropped, leave the others as they were", () => {
    const [first, second, third] = [randomBlock(5), randomBlock(4), randomBlock(3)];
    const cache = cacheOf({ block: first, at: 2 }, { block: second, at: 40 }, { block: third, at: 60 });
    cache.drop(5, 9);
    expect(rowsOf(cache)).toEqual(rowsOf(cacheOf({ block: first, at: 2 }, { block: third, at: 60 })));
  });
});
