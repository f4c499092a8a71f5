import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { PRECISIONS, type Block, type Precision, type Range } from "../../engine/index.js";
import { allocateBlock, GROUP_TOKENS, type Float32Block, type KvShape } from "../../engine/kv/block.js";
import { KvCache } from "../../engine/backend/cpu/cache.js";
import { createRotaryTable } from "../../engine/kv/rotary.js";
import { keptAs, rotated, widened } from "./plain-kv.js";

const BASE = 10_000;
const POSITIONS = 1000;

type Setting = { readonly headSize: number; readonly heads: number; readonly layers: number };
type Piece = { readonly tokens: number; readonly at: number; readonly stride: number; readonly omit: readonly Range[]; readonly precision: Precision };

const setting = fc.record({ headSize: fc.constantFrom(16, 18, 64, 80, 128), heads: fc.integer({ min: 1, max: 3 }), layers: fc.integer({ min: 1, max: 2 }) });
const piece = (most: number): fc.Arbitrary<Piece> =>
  fc.integer({ min: 1, max: most }).chain((tokens) =>
    fc.record({
      tokens: fc.constant(tokens),
      at: fc.integer({ min: 0, max: POSITIONS - 2 * tokens }),
      stride: fc.constantFrom(1, 2),
      omit: fc.array(fc.tuple(fc.nat(tokens), fc.nat(tokens)).map(([a, b]): Range => [Math.min(a, b), Math.max(a, b)]), { maxLength: 2 }),
      precision: fc.constantFrom(...PRECISIONS),
    }),
  );

function shapeOf({ layers, heads, headSize }: Setting): KvShape {
  return { layers, width: heads * headSize };
}

function randomBlock(shape: KvShape, tokens: number): Float32Block {
  const block = allocateBlock(shape, tokens);
  for (const values of [block.k, block.v]) values.forEach((_, i) => (values[i] = (Math.random() - 0.5) * 10 ** (i % 4)));
  return block;
}

const positionsOf = ({ tokens, at, stride }: Piece) => Int32Array.from({ length: tokens }, (_, i) => at + i * stride);
const cacheOf = (setting: Setting) => new KvCache(shapeOf(setting), createRotaryTable(POSITIONS, setting.headSize, BASE));
const rowsOf = (cache: KvCache, layers: number) => Array.from({ length: layers }, (_, layer) => cache.rows(layer, 0, cache.length)).map(({ k, v }) => ({ k: k.slice(), v: v.slice() }));

/** What a splice has to write, by the definitions: one layer's K (or V) of the tokens that `omit` leaves. */
function plainRows({ headSize, heads }: Setting, block: Block, spliced: Piece, layer: number): { k: number[]; v: number[] } {
  const { k, v } = widened(block);
  const positions = positionsOf(spliced);
  const rows: { k: number[]; v: number[] } = { k: [], v: [] };
  for (let token = 0; token < block.tokens; token++) {
    if (spliced.omit.some(([start, end]) => start <= token && token < end)) continue;
    for (let head = 0; head < heads; head++) {
      const at = ((layer * block.tokens + token) * heads + head) * headSize;
      rows.k.push(...rotated([...k.subarray(at, at + headSize)], positions[token]!, BASE));
      rows.v.push(...v.subarray(at, at + headSize));
    }
  }
  return rows;
}

/** Float32 arithmetic of a sum of two products rounds by less than 2^-22 of the largest value that goes in. */
function expectNear(actual: Float32Array, expected: readonly number[], largest: number): void {
  expect(actual.length).toBe(expected.length);
  expect(actual.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0)).toBeLessThanOrEqual(largest * 2 ** -20);
}

const largestOf = (values: Iterable<number>) => [...values].reduce((most, value) => Math.max(most, Math.abs(value)), 0);

describe("splice", () => {
  test("writes what the definitions of precision and rotary embedding say, for any shape, places and omitted tokens", () => {
    fc.assert(
      fc.property(setting, fc.array(piece(60), { minLength: 1, maxLength: 3 }), (setting, pieces) => {
        const cache = cacheOf(setting);
        const blocks = pieces.map(({ tokens, precision }) => keptAs(randomBlock(shapeOf(setting), tokens), precision, setting.headSize));
        pieces.forEach((spliced, i) => cache.splice(blocks[i]!, positionsOf(spliced), spliced.omit));
        for (let layer = 0; layer < setting.layers; layer++) {
          const plain = pieces.map((spliced, i) => plainRows(setting, blocks[i]!, spliced, layer));
          const [k, v] = [plain.flatMap((rows) => rows.k), plain.flatMap((rows) => rows.v)];
          expectNear(cache.rows(layer, 0, cache.length).k, k, 2 * largestOf(k));
          expectNear(cache.rows(layer, 0, cache.length).v, v, largestOf(v));
        }
      }),
      { numRuns: 60 },
    );
  });

  test.each(PRECISIONS)("of a %s block longer than a group of scales is that of the same values as float32", (precision) => {
    const setting = { headSize: 64, heads: 3, layers: 2 };
    const block = keptAs(randomBlock(shapeOf(setting), 2 * GROUP_TOKENS + 21), precision, setting.headSize);
    const whole: Float32Block = { ...block, ...widened(block), precision: "float32" };
    const spliced: Piece = { tokens: block.tokens, at: 7, stride: 2, omit: [[100, 140]], precision };
    const [cache, same] = [cacheOf(setting), cacheOf(setting)];
    cache.splice(block, positionsOf(spliced), spliced.omit);
    same.splice(whole, positionsOf(spliced), spliced.omit);
    for (let layer = 0; layer < setting.layers; layer++) {
      for (const part of ["k", "v"] as const) expectNear(cache.rows(layer, 0, cache.length)[part], [...same.rows(layer, 0, same.length)[part]], 0);
    }
  });
});

describe("a cache's rows", () => {
  const setting = { headSize: 16, heads: 3, layers: 2 };
  const shape = shapeOf(setting);
  const places = [2, 40, 60].map((at, i): Piece => ({ tokens: 5 - i, at, stride: 1, omit: [], precision: "float32" }));
  const blocks = places.map(({ tokens }) => randomBlock(shape, tokens));
  const spliced = (...indices: number[]) => {
    const cache = cacheOf(setting);
    for (const i of indices) cache.splice(blocks[i]!, positionsOf(places[i]!));
    return cache;
  };

  test("extracted, are the block that was spliced", () => {
    const extracted = spliced(0, 1).extract(5, 9, positionsOf(places[1]!), "float32") as Float32Block;
    expect(extracted.v).toEqual(blocks[1]!.v);
    expectNear(extracted.k, [...blocks[1]!.k], 4 * largestOf(blocks[1]!.k));
  });

  test("stay when room is made for more", () => {
    const cache = spliced(0, 1);
    for (const room of [10, 100, 5000]) cache.reserve(room);
    expect(rowsOf(cache, setting.layers)).toEqual(rowsOf(spliced(0, 1), setting.layers));
    const next = cache.rows(1, cache.length, cache.length + 3);
    expect([next.k.length, next.v.length]).toEqual([3 * shape.width, 3 * shape.width]);
  });

  test("beyond what one memory holds are refused with what to do", () => {
    expect(() => cacheOf(setting).reserve(2 ** 24)).toThrow(/12.0 GB .* fewer or shorter documents/);
  });
});
