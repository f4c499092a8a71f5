import { expect, test } from "vitest";
import { allocateBlock, GROUP_TOKENS, type Float16Block, type Float32Block, type Int8Block } from "../../engine/kv/block.js";
import { decodeSafetensors, encodeSafetensors } from "../../engine/kv/safetensors.js";
import { PRECISIONS } from "../../engine/index.js";
import { float16, keptAs, likeLayers, widened } from "./plain-kv.js";

/** Values of many magnitudes; some channels of K and some tokens of V are outliers, one channel and one head are 0. */
function blockOf(tokens: number, headSize: number): Float32Block {
  const width = 3 * headSize;
  const block = allocateBlock(likeLayers(2, 3, headSize), tokens);
  block.k.forEach((_, i) => (block.k[i] = i % width === 5 ? 0 : (Math.random() - 0.5) * (i % 7 === 0 ? 300 : 3)));
  block.v.forEach((_, i) => (block.v[i] = i < headSize ? 0 : (Math.random() - 0.5) * (Math.floor(i / width) % 9 === 0 ? 80 : 0.5)));
  return block;
}

const HEAD_SIZE = 16;

/** Values as float16; they come in whole heads. */
function float16Bits(values: readonly number[]): Uint16Array {
  const padded = Float32Array.from({ length: Math.ceil(values.length / HEAD_SIZE) * HEAD_SIZE }, (_, i) => values[i] ?? 0);
  const block: Float32Block = { layers: likeLayers(1, 1, HEAD_SIZE), tokens: padded.length / HEAD_SIZE, precision: "float32", k: padded, v: padded };
  const { k, v } = keptAs(block, "float16") as Float16Block;
  expect(k).toEqual(v);
  return k.slice(0, values.length);
}

test.each([6, 16, 18, 64, 80, 128])("int8 of heads of %i is off by half a step at most: a 254th of the largest in K's channel and group, or in V's token and head", (headSize) => {
  const tokens = GROUP_TOKENS + 9;
  const block = blockOf(tokens, headSize);
  const { k, v, layers } = block;
  const width = 3 * headSize;
  const int8 = keptAs(block, "int8") as Int8Block;
  const off = widened(int8);
  /** The largest magnitude by what shares a scale, and the largest error there over that. */
  const worst = (values: Float32Array, kept: Float32Array, scaleOf: (i: number) => number) => {
    const largest = new Map<number, number>();
    values.forEach((value, i) => largest.set(scaleOf(i), Math.max(largest.get(scaleOf(i)) ?? 0, Math.abs(value))));
    return values.reduce((most, value, i) => Math.max(most, value === kept[i] ? 0 : Math.abs(value - kept[i]!) / largest.get(scaleOf(i))!), 0);
  };
  const halfStep = (1 / 254) * (1 + 2 ** -16); // and what products in float32 round
  const channelOf = (i: number) => (Math.floor(i / width / tokens) * 2 + (Math.floor(i / width) % tokens >= GROUP_TOKENS ? 1 : 0)) * width + (i % width);
  expect(worst(k, off.k, channelOf)).toBeLessThanOrEqual(halfStep);
  expect(worst(v, off.v, (i) => Math.floor(i / headSize))).toBeLessThanOrEqual(halfStep);
  expect([int8.kScales.length, int8.vScales.length]).toEqual([layers.length * 2 * width, layers.length * tokens * 3]);
});

test("every float16 comes back from float32 as it was", () => {
  const finite = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits).filter((bits) => ((bits >> 10) & 31) < 31 && bits !== 0x8000);
  expect(float16Bits(Array.from(finite, float16))).toEqual(finite);
});

test("float16 is the nearest one: ties go to the even one, and nothing becomes infinite", () => {
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

test.each(PRECISIONS)("a %s block is a safetensors file and back; with any byte changed or cut off it does not verify", (precision) => {
  const mixed = allocateBlock([{ heads: 2, headSize: 16 }, { heads: 2, headSize: 16 }, { heads: 1, headSize: 6 }], 3);
  for (const values of [mixed.k, mixed.v]) values.forEach((_, i) => (values[i] = Math.random() - 0.5));
  const block = keptAs(mixed, precision);
  const file = Buffer.concat(encodeSafetensors("key", block));
  expect(decodeSafetensors("key", file)).toEqual(block);
  expect(decodeSafetensors("another", file)).toBeUndefined();
  for (let at = 0; at < file.length; at++) {
    const damaged = Buffer.from(file);
    damaged[at]! ^= 1 << at % 8;
    expect(decodeSafetensors("key", damaged)).toBeUndefined();
    if (at % 7 === 0) expect(decodeSafetensors("key", file.subarray(0, at))).toBeUndefined();
  }
  expect(decodeSafetensors("key", Buffer.concat([Buffer.alloc(1), file]).subarray(1))).toEqual(block); // wherever it lies in memory
});
