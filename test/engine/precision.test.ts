import fc from "fast-check";
import { expect, test } from "vitest";
import { PRECISIONS } from "../../engine/index.js";
import { allocateBlock, type Float16Block, type Float32Block, GROUP_TOKENS, type Int8Block } from "../../engine/kv/block.js";
import { decodeSafetensors, encodeSafetensors } from "../../engine/kv/safetensors.js";
import { numbersOf } from "../support/engine/models/random.js";
import { float16, keptAs, likeLayers, widened } from "../support/engine/plain-kv.js";

/** Values of many magnitudes; some channels of K and some tokens of V are outliers, one channel and one head are 0. */
function blockOf(tokens: number, headSize: number, seed: number): Float32Block {
  const width = 3 * headSize;
  const random = { state: seed };
  const block = allocateBlock(likeLayers(2, 3, headSize), tokens);
  block.k.set(numbersOf(random, block.k.length).map((value, i) => (i % width === 5 ? 0 : value * (i % 7 === 0 ? 100 : 1))));
  block.v.set(
    numbersOf(random, block.v.length).map((value, i) => (i < headSize ? 0 : value * (Math.floor(i / width) % 9 === 0 ? 160 : 1))),
  );
  return block;
}

const HEAD_SIZE = 16;

/** Values as float16, in whole heads. */
function float16Bits(values: readonly number[]): Uint16Array {
  const padded = Float32Array.from({ length: Math.ceil(values.length / HEAD_SIZE) * HEAD_SIZE }, (_, i) => values[i] ?? 0);
  const block: Float32Block = {
    layers: likeLayers(1, 1, HEAD_SIZE),
    tokens: padded.length / HEAD_SIZE,
    precision: "float32",
    k: padded,
    v: padded,
  };
  const { k, v } = keptAs(block, "float16") as Float16Block;
  expect(k).toEqual(v);
  return k.slice(0, values.length);
}

test.each([6, 16, 18, 64, 80, 128])(
  "int8 with heads of %i is off by at most half a step: 1/254 of the largest value in K's channel and group, or in V's token and head",
  (headSize) => {
    const tokens = GROUP_TOKENS + 9;
    const width = 3 * headSize;
    /** For the values that share a scale: the largest magnitude, and the largest error relative to it. */
    const worst = (values: Float32Array, kept: Float32Array, scaleOf: (i: number) => number) => {
      const largest = new Map<number, number>();
      values.forEach((value, i) => largest.set(scaleOf(i), Math.max(largest.get(scaleOf(i)) ?? 0, Math.abs(value))));
      return values.reduce(
        (most, value, i) => Math.max(most, value === kept[i] ? 0 : Math.abs(value - kept[i]!) / largest.get(scaleOf(i))!),
        0,
      );
    };
    // The scale, a value over it, and a whole number times it are rounded to float32, each by up to 2^-24 of 127 steps.
    const halfStep = (0.5 + 3 * 127 * 2 ** -24) / 127;
    const channelOf = (i: number) =>
      (Math.floor(i / width / tokens) * 2 + (Math.floor(i / width) % tokens >= GROUP_TOKENS ? 1 : 0)) * width + (i % width);
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const block = blockOf(tokens, headSize, seed);
        const { k, v, layers } = block;
        const int8 = keptAs(block, "int8") as Int8Block;
        const off = widened(int8);
        expect(worst(k, off.k, channelOf)).toBeLessThanOrEqual(halfStep);
        expect(worst(v, off.v, (i) => Math.floor(i / headSize))).toBeLessThanOrEqual(halfStep);
        expect([int8.kScales.length, int8.vScales.length]).toEqual([layers.length * 2 * width, layers.length * tokens * 3]);
      }),
      { numRuns: 4 },
    );
  },
);

test("every float16 survives conversion to float32 and back", () => {
  const finite = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits).filter((bits) => ((bits >> 10) & 31) < 31 && bits !== 0x8000);
  expect(float16Bits(Array.from(finite, float16))).toEqual(finite);
});

test("float16 is the nearest value, with ties to even, and never infinite", () => {
  const step = 2 ** -10; // between 1 and 2
  const cases: [value: number, expected: number][] = [
    [1 + step / 2, 1],
    [1 + 1.5 * step, 1 + 2 * step],
    [1 + 0.51 * step, 1 + step],
    [-(2 - step / 4), -2],
    [2 ** -25, 0],
    [1.5 * 2 ** -24, 2 * 2 ** -24],
    [2 ** -14 - 2 ** -26, 2 ** -14],
    [65_519, 65_504],
    [-1e9, -65_504],
  ];
  expect([...float16Bits(cases.map(([value]) => value))].map(float16)).toEqual(cases.map(([, expected]) => expected));
});

test.each(PRECISIONS)(
  "a %s block survives conversion to a safetensors file and back; with any byte changed or cut off it does not verify",
  (precision) => {
    const layers = [
      { heads: 2, headSize: 16 },
      { heads: 2, headSize: 16 },
      { heads: 1, headSize: 6 },
    ];
    fc.assert(
      fc.property(fc.nat(), fc.nat(7), (seed, bit) => {
        const mixed = allocateBlock(layers, 3);
        const random = { state: seed };
        for (const values of [mixed.k, mixed.v]) values.set(numbersOf(random, values.length));
        const block = keptAs(mixed, precision);
        const file = Buffer.concat(encodeSafetensors("key", block));
        expect(decodeSafetensors("key", file)).toEqual(block);
        expect(decodeSafetensors("another", file)).toBeUndefined();
        for (let at = 0; at < file.length; at++) {
          const damaged = Buffer.from(file);
          damaged[at]! ^= 1 << ((at + bit) % 8);
          expect(decodeSafetensors("key", damaged)).toBeUndefined();
          if (at % 7 === 0) expect(decodeSafetensors("key", file.subarray(0, at))).toBeUndefined();
        }
        expect(decodeSafetensors("key", Buffer.concat([Buffer.alloc(1), file]).subarray(1))).toEqual(block); // wherever it is in memory
      }),
      { numRuns: 3 },
    );
  },
);
