import { KvCache } from "../../../engine/backend/cpu/cache.js";
import { type Block, type Float32Block, GROUP_TOKENS, type Precision } from "../../../engine/kv/block.js";
import type { LayerForm } from "../../../engine/kv/form.js";

/** Layers of one shape, with K rotated by rotary kind 0. */
export function likeLayers(count: number, heads: number, headSize: number): LayerForm[] {
  return Array.from({ length: count }, () => ({ kind: "kv", heads, headSize, rotary: 0 }));
}

/** The block as a model of that precision stores it: spliced and extracted again, in layers without rotation. */
export function keptAs(block: Float32Block, precision: Precision): Block {
  const cache = new KvCache({ layers: block.layers.map((layer) => ({ kind: "kv", ...layer, rotary: undefined })) }, []);
  cache.splice(block, new Int32Array(block.tokens));
  return { ...cache.extract(0, block.tokens, precision), layers: block.layers };
}

/** A block's K and V as float32, value by value. */
export function widened(block: Block): { k: Float32Array; v: Float32Array } {
  if (block.precision === "float32") return block;
  if (block.precision === "float16") return { k: Float32Array.from(block.k, float16), v: Float32Array.from(block.v, float16) };
  const { layers, tokens, kScales, vScales } = block;
  const groups = Math.ceil(tokens / GROUP_TOKENS);
  const [k, v] = [new Float32Array(block.k.length), new Float32Array(block.v.length)];
  let [at, group, row] = [0, 0, 0];
  for (const { heads, headSize } of layers) {
    const width = heads * headSize;
    for (let token = 0; token < tokens; token++) {
      for (let channel = 0; channel < width; channel++, at++) {
        k[at] = block.k[at]! * kScales[group + Math.floor(token / GROUP_TOKENS) * width + channel]!;
        v[at] = block.v[at]! * vScales[row + token * heads + Math.floor(channel / headSize)]!;
      }
    }
    group += groups * width;
    row += tokens * heads;
  }
  return { k, v };
}

/** IEEE 754 binary16 by its definition. */
export function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The rotary embedding (Su et al. 2021) of one head, by its definition: of its first `2 * half` dimensions. */
export function rotated(head: readonly number[], position: number, base: number, half = head.length / 2): number[] {
  const turned = [...head];
  for (let i = 0; i < half; i++) {
    const angle = position * base ** (-i / half);
    turned[i] = head[i]! * Math.cos(angle) - head[half + i]! * Math.sin(angle);
    turned[half + i] = head[half + i]! * Math.cos(angle) + head[i]! * Math.sin(angle);
  }
  return turned;
}
