import { expect, test } from "vitest";
import { allocateBlock, GROUP_TOKENS, type Float32Block, type Int8Block } from "../../engine/kv/block.js";
import { float16Bits, quantize } from "../../engine/kv/quantize.js";
import { decodeSafetensors, encodeSafetensors } from "../../engine/kv/safetensors.js";
import { PRECISIONS } from "../../engine/index.js";
import { float16, widened } from "./plain-kv.js";

const HEAD_SIZE = 16;
const SHAPE = { layers: 2, width: 3 * HEAD_SIZE };

/** Values of many magnitudes; some channels of K and some tokens of V are outliers, one channel and one head are 0. */
function blockOf(tokens: number): Float32Block {
  const block = allocateBlock(SHAPE, tokens);
  block.k.forEach((_, i) => (block.k[i] = i % SHAPE.width === 5 ? 0 : (Math.random() - 0.5) * (i % 7 === 0 ? 300 : 3)));
  block.v.forEach((_, i) => (block.v[i] = i < HEAD_SIZE ? 0 : (Math.random() - 0.5) * (Math.floor(i / SHAPE.width) % 9 === 0 ? 80 : 0.5)));
  return block;
}

const tokens = 2 * GROUP_TOKENS + 9;

test("int8 is off by half a step at most: a 254th of the largest in K's channel and group, or in V's token and head", () => {
  const block = blockOf(tokens);
  const int8 = quantize(block, "int8", HEAD_SIZE) as Int8Block;
  const { k, v } = widened(int8);
  const rounding = 1 + 2 ** -20; // of the products in float32
  const groups = Math.ceil(tokens / GROUP_TOKENS);
  block.k.forEach((value, i) => {
    const [layer, token, channel] = [Math.floor(i / SHAPE.width / tokens), Math.floor(i / SHAPE.width) % tokens, i % SHAPE.width];
    const scale = int8.kScales[(layer * groups + Math.floor(token / GROUP_TOKENS)) * SHAPE.width + channel]!;
    expect(Math.abs(k[i]! - value)).toBeLessThanOrEqual((scale / 2) * rounding);
  });
  block.v.forEach((value, i) => expect(Math.abs(v[i]! - value)).toBeLessThanOrEqual((int8.vScales[Math.floor(i / HEAD_SIZE)]! / 2) * rounding));
  expect(int8.kScales).toHaveLength(SHAPE.layers * groups * SHAPE.width);
  const firstHead = block.v.subarray(HEAD_SIZE, 2 * HEAD_SIZE);
  expect(int8.vScales[1]).toBeCloseTo(firstHead.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127, 6);
});

test("every float16 comes back from float32 as it was", () => {
  const finite = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits).filter((bits) => ((bits >> 10) & 31) < 31 && bits !== 0x8000);
  expect(float16Bits(Float32Array.from(finite, float16))).toEqual(finite);
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
  expect([...float16Bits(Float32Array.from(cases, ([value]) => value))].map(float16)).toEqual(cases.map(([, expected]) => expected));
});

test.each(PRECISIONS)("a %s block is a safetensors file and back; with any byte changed or cut off it does not verify", (precision) => {
  const block = quantize(blockOf(3), precision, HEAD_SIZE);
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
