import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KvCache } from "../../engine/backend/cpu/cache.js";
import { MEMORY_BYTES } from "../../engine/backend/cpu/layer-memory.js";
import { type Block, PRECISIONS, type Precision, type Range } from "../../engine/index.js";
import { allocateBlock, type Float32Block, GROUP_TOKENS } from "../../engine/kv/block.js";
import { type KvForm, type LayerForm, layerOffsets } from "../../engine/kv/form.js";
import { RotaryTable, rotaryFrequencies } from "../../engine/kv/rotary.js";
import { numbersOf } from "../support/engine/models/random.js";
import { keptAs, likeLayers, rotated, widened } from "../support/engine/plain-kv.js";

const BASE = 10_000;
const POSITIONS = 1000;

/** Pairs of dimensions that each kind of rotary embedding rotates. */
type Setting = KvForm & { readonly halves: readonly number[] };
type Piece = {
  readonly tokens: number;
  readonly at: number;
  readonly stride: number;
  readonly omit: readonly Range[];
  readonly precision: Precision;
  /** Chooses its block's values. */
  readonly seed?: number;
};

/** A layer rotated fully (kind 0 of its head size), in part, or not at all: kinds are numbered by `halves`. */
const layer = (halves: readonly number[]): fc.Arbitrary<LayerForm> =>
  fc
    .record({
      headSize: fc.constantFrom(2, 6, 10, 14, 16, 18, 24, 64, 80, 128, 256),
      heads: fc.integer({ min: 1, max: 3 }),
      kind: fc.option(fc.nat(halves.length - 1)),
    })
    .map(({ headSize, heads, kind }) => {
      const fits = kind !== null && 2 * halves[kind]! <= headSize;
      return { kind: "kv", heads, headSize, rotary: fits ? kind : undefined };
    });
const setting: fc.Arbitrary<Setting> = fc
  .array(fc.constantFrom(1, 3, 5, 7, 8, 9, 12, 16, 32, 40, 64, 128), { minLength: 1, maxLength: 3 })
  .chain((halves) => fc.record({ halves: fc.constant(halves), layers: fc.array(layer(halves), { minLength: 1, maxLength: 4 }) }));
const piece = (most: number): fc.Arbitrary<Piece> =>
  fc.integer({ min: 1, max: most }).chain((tokens) =>
    fc.record({
      tokens: fc.constant(tokens),
      at: fc.integer({ min: 0, max: POSITIONS - 2 * tokens }),
      stride: fc.constantFrom(1, 2),
      omit: fc.array(
        fc.tuple(fc.nat(tokens), fc.nat(tokens)).map(([a, b]): Range => [Math.min(a, b), Math.max(a, b)]),
        { maxLength: 2 },
      ),
      precision: fc.constantFrom(...PRECISIONS),
      seed: fc.nat(),
    }),
  );

function randomBlock({ layers }: KvForm, tokens: number, seed = tokens): Float32Block {
  const block = allocateBlock(layers, tokens);
  const random = { state: seed };
  for (const values of [block.k, block.v]) numbersOf(random, values.length).forEach((value, i) => (values[i] = value * 10 ** (i % 4)));
  return block;
}

const positionsOf = ({ tokens, at, stride }: Piece) => Int32Array.from({ length: tokens }, (_, i) => at + i * stride);
const cacheOf = (setting: Setting) =>
  new KvCache(
    setting,
    setting.halves.map((half) => new RotaryTable(rotaryFrequencies(2 * half, BASE))),
  );
const rowsOf = (cache: KvCache, layers: number) =>
  Array.from({ length: layers }, (_, layer) => cache.rows(layer, 0, cache.length)).map(({ k, v }) => ({ k: k.slice(), v: v.slice() }));
const kept = ({ tokens, omit }: Piece) =>
  Array.from({ length: tokens }, (_, token) => token).filter((token) => !omit.some(([start, end]) => start <= token && token < end));

/** What a splice must write, by definition: one layer's K (or V) of the tokens not in `omit`. */
function plainRows({ layers, halves }: Setting, block: Block, spliced: Piece, layer: number): { k: number[]; v: number[] } {
  const { k, v } = widened(block);
  const { heads, headSize, rotary } = layers[layer]!;
  const positions = positionsOf(spliced);
  const rows: { k: number[]; v: number[] } = { k: [], v: [] };
  for (const token of kept(spliced)) {
    for (let head = 0; head < heads; head++) {
      const at = block.tokens * layerOffsets(layers).widths[layer]! + (token * heads + head) * headSize;
      rows.k.push(...rotated([...k.subarray(at, at + headSize)], positions[token]!, BASE, rotary === undefined ? 0 : halves[rotary]!));
      rows.v.push(...v.subarray(at, at + headSize));
    }
  }
  return rows;
}

/** A sum of two products in float32 is rounded by less than 2^-22 of the largest input. */
function expectNear(actual: Float32Array, expected: readonly number[], largest: number): void {
  expect(actual.length).toBe(expected.length);
  expect(actual.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0)).toBeLessThanOrEqual(largest * 2 ** -20);
}

const largestOf = (values: Iterable<number>) => [...values].reduce((most, value) => Math.max(most, Math.abs(value)), 0);

describe("splice", () => {
  test("follows the definitions of precision and rotary embedding for any layer shapes, positions and omitted tokens", () => {
    fc.assert(
      fc.property(setting, fc.array(piece(60), { minLength: 1, maxLength: 3 }), (setting, pieces) => {
        const cache = cacheOf(setting);
        const blocks = pieces.map(({ tokens, precision, seed }) => keptAs(randomBlock(setting, tokens, seed), precision));
        pieces.forEach((spliced, i) => cache.splice(blocks[i]!, positionsOf(spliced), spliced.omit));
        setting.layers.forEach((_, layer) => {
          const plain = pieces.map((spliced, i) => plainRows(setting, blocks[i]!, spliced, layer));
          const [k, v] = [plain.flatMap((rows) => rows.k), plain.flatMap((rows) => rows.v)];
          expectNear(cache.rows(layer, 0, cache.length).k, k, 2 * largestOf(k));
          expectNear(cache.rows(layer, 0, cache.length).v, v, largestOf(v));
        });
        expect([...cache.positions]).toEqual(pieces.flatMap((spliced) => kept(spliced).map((token) => positionsOf(spliced)[token])));
      }),
      { numRuns: 40 },
    );
  });

  test.each(PRECISIONS)("of a %s block longer than a group of scales equals that of the same values in float32", (precision) => {
    const setting = { layers: [...likeLayers(1, 3, 64), ...likeLayers(1, 1, 96)], halves: [32] };
    const block = keptAs(randomBlock(setting, 2 * GROUP_TOKENS + 21), precision);
    const whole: Float32Block = { ...block, ...widened(block), precision: "float32" };
    const spliced: Piece = { tokens: block.tokens, at: 7, stride: 2, omit: [[100, 140]], precision };
    const [cache, same] = [cacheOf(setting), cacheOf(setting)];
    cache.splice(block, positionsOf(spliced), spliced.omit);
    same.splice(whole, positionsOf(spliced), spliced.omit);
    for (let layer = 0; layer < setting.layers.length; layer++) {
      for (const part of ["k", "v"] as const)
        expectNear(cache.rows(layer, 0, cache.length)[part], [...same.rows(layer, 0, same.length)[part]], 0);
    }
  });

  test("rotates nothing in a layer without rotary embedding, wherever the block is laid", () => {
    const setting: Setting = { layers: [{ kind: "kv", heads: 2, headSize: 16, rotary: undefined }], halves: [] };
    const block = randomBlock(setting, 9);
    const cache = cacheOf(setting);
    cache.splice(
      block,
      Int32Array.from(block.k.subarray(0, 9), (_, i) => 500 + i),
    );
    expect(cache.rows(0, 0, 9)).toEqual({ k: block.k, v: block.v });
  });

  test("refuses a block with other layers or another length, and writes nothing", () => {
    const setting = { layers: likeLayers(2, 3, 16), halves: [8] };
    const positions = Int32Array.of(0, 1, 2);
    const right = randomBlock(setting, 3);
    const wrong = [
      randomBlock({ layers: likeLayers(1, 3, 16) }, 3),
      randomBlock({ layers: likeLayers(2, 1, 48) }, 3), // same width, another head size
      randomBlock(setting, 4),
      { ...right, k: right.k.subarray(1) },
    ];
    const cache = cacheOf(setting);
    for (const block of wrong) expect(() => cache.splice(block, positions)).toThrow(/does not fit/);
    expect(cache.length).toBe(0);
    cache.splice(right, positions);
    expect(cache.length).toBe(3);
  });
});

describe("a cache's rows", () => {
  const setting: Setting = { layers: [...likeLayers(1, 3, 16), { kind: "kv", heads: 1, headSize: 24, rotary: 1 }], halves: [8, 5] };
  const places = [2, 40, 60].map((at, i): Piece => ({ tokens: 5 - i, at, stride: 1, omit: [], precision: "float32" }));
  const blocks = places.map(({ tokens }) => randomBlock(setting, tokens));
  const spliced = (...indices: number[]) => {
    const cache = cacheOf(setting);
    for (const i of indices) cache.splice(blocks[i]!, positionsOf(places[i]!));
    return cache;
  };

  test("extracted, equal the block that was spliced", () => {
    const extracted = spliced(0, 1).extract(5, 9, "float32") as Float32Block;
    expect(extracted.v).toEqual(blocks[1]!.v);
    expectNear(extracted.k, [...blocks[1]!.k], 4 * largestOf(blocks[1]!.k));
  });

  test("stay when the cache grows", () => {
    const cache = spliced(0, 1);
    for (const room of [10, 100, 5000]) cache.reserve(room);
    expect(rowsOf(cache, 2)).toEqual(rowsOf(spliced(0, 1), 2));
    expect([...cache.positions]).toEqual([...spliced(0, 1).positions]);
    const next = cache.rows(1, cache.length, cache.length + 3);
    expect([next.k.length, next.v.length]).toEqual([3 * 24, 3 * 24]);
  });

  test("are truncated to the part that another prompt shares, positions included", () => {
    const cache = spliced(0, 1);
    cache.truncate(5);
    cache.splice(blocks[2]!, positionsOf(places[2]!));
    expect(rowsOf(cache, 2)).toEqual(rowsOf(spliced(0, 2), 2));
    expect([...cache.positions]).toEqual([2, 3, 4, 5, 6, 60, 61, 62]);
  });

  test("that do not fit in one memory are split over several by layer", () => {
    const same = (a: Float32Array, b: Float32Array) =>
      Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
    const wide = { layers: likeLayers(5, 64, 64), halves: [32] };
    const [a, b] = [randomBlock(wide, 7), randomBlock(wide, 3)];
    const [cache, small] = [cacheOf(wide), cacheOf(wide)];
    for (const each of [cache, small]) each.splice(a, positionsOf({ ...places[0]!, tokens: 7 }));
    const rows = Math.ceil((2.2 * MEMORY_BYTES) / (5 * 2 * 64 * 64 * 4));
    cache.reserve(rows); // memory is allocated when it is written to: this takes none
    for (const each of [cache, small]) each.splice(b, positionsOf({ ...places[1]!, tokens: 3 }));
    rowsOf(cache, 5).forEach(({ k, v }, layer) =>
      expect([same(k, small.rows(layer, 0, 10).k), same(v, small.rows(layer, 0, 10).v)]).toEqual([true, true]),
    );
    expect(new Set(Array.from({ length: 5 }, (_, layer) => cache.rows(layer, 0, 1).k.buffer)).size).toBe(3);
    const [taken, plain] = [cache, small].map((each) => each.extract(2, 9, "float32") as Float32Block);
    expect([same(taken!.k, plain!.k), same(taken!.v, plain!.v)]).toEqual([true, true]);
  });

  test("too long for one layer in one memory are refused with advice", () => {
    expect(() => cacheOf(setting).reserve(2 ** 24)).toThrow(/16777216 tokens takes more than 4 GiB .* fewer or shorter documents/);
  });
});
