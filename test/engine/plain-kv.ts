import { GROUP_TOKENS, type Block, type Float32Block, type Precision } from "../../engine/kv/block.js";
import { KvCache } from "../../engine/backend/cpu/cache.js";
import { createRotaryTable } from "../../engine/kv/rotary.js";

/** The block as a model of that precision keeps it: spliced and taken out again, at position 0, which turns nothing. */
export function keptAs(block: Float32Block, precision: Precision, headSize: number): Block {
  const cache = new KvCache(block, createRotaryTable(1, headSize, 10_000));
  const nowhere = new Int32Array(block.tokens);
  cache.splice(block, nowhere);
  return cache.extract(0, block.tokens, nowhere, precision);
}

/** A block's K and V as float32, value by value. */
export function widened(block: Block): { k: Float32Array; v: Float32Array } {
  if (block.precision === "float32") return block;
  if (block.precision === "float16") return { k: Float32Array.from(block.k, float16), v: Float32Array.from(block.v, float16) };
  const { layers, tokens, width, kScales, vScales } = block;
  const groups = Math.ceil(tokens / GROUP_TOKENS);
  const perRow = (layers * tokens * width) / vScales.length;
  const k = Float32Array.from(block.k, (value, i) => {
    const [channel, token, layer] = [i % width, Math.floor(i / width) % tokens, Math.floor(i / width / tokens)];
    return value * kScales[(layer * groups + Math.floor(token / GROUP_TOKENS)) * width + channel]!;
  });
  return { k, v: Float32Array.from(block.v, (value, i) => value * vScales[Math.floor(i / perRow)]!) };
}

/** IEEE 754 binary16 by its definition. */
export function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The rotary embedding (Su et al. 2021) of one head, by its definition. */
export function rotated(head: readonly number[], position: number, base: number): number[] {
  const half = head.length / 2;
  const turned = new Array<number>(head.length);
  for (let i = 0; i < half; i++) {
    const angle = position * base ** (-i / half);
    turned[i] = head[i]! * Math.cos(angle) - head[half + i]! * Math.sin(angle);
    turned[half + i] = head[half + i]! * Math.cos(angle) + head[i]! * Math.sin(angle);
  }
  return turned;
}
