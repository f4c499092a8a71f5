import { layerOffsets, type KvForm, type LayerShape } from "./form.js";

/** How a block's values are kept: whole, as IEEE 754 binary16, or as multiples of a scale. */
export const PRECISIONS = ["float32", "float16", "int8"] as const;
export type Precision = (typeof PRECISIONS)[number];

/** A quarter of float32's bytes, and as many right answers: docs/precision.md has both. */
export const DEFAULT_PRECISION: Precision = "int8";

/**
 * The KV states of one block, without position: K is kept before the rotary embedding.
 * `k` and `v` are the layers' `[tokens, heads, head_size]`, one after the other.
 */
export type Block = Float32Block | Float16Block | Int8Block;

type Common = { readonly layers: readonly LayerShape[]; readonly tokens: number };

export type Float32Block = Common & { readonly precision: "float32"; readonly k: Float32Array; readonly v: Float32Array };

/** The values' bits. */
export type Float16Block = Common & { readonly precision: "float16"; readonly k: Uint16Array; readonly v: Uint16Array };

/**
 * A value is its int8 times a scale. K has outliers in some channels, of all tokens, and V in some tokens; so K's
 * scales are per channel over `GROUP_TOKENS` tokens, and V's per token and head (KIVI, Liu et al. 2024; KVQuant,
 * Hooper et al. 2024).
 */
export type Int8Block = Common & {
  readonly precision: "int8";
  readonly k: Int8Array;
  readonly v: Int8Array;
  /** The layers' `[ceil(tokens / GROUP_TOKENS), heads, head_size]`, one after the other. */
  readonly kScales: Float32Array;
  /** The layers' `[tokens, heads]`, one after the other. */
  readonly vScales: Float32Array;
};

/** Tokens that share the scale of a K channel: a chunk is mostly one group. */
export const GROUP_TOKENS = 160;

/** Lengths of a block's arrays. */
export function blockSizes(layers: readonly LayerShape[], tokens: number): { readonly values: number; readonly kScales: number; readonly vScales: number } {
  const { widths, heads } = layerOffsets(layers);
  return { values: tokens * widths.at(-1)!, kScales: Math.ceil(tokens / GROUP_TOKENS) * widths.at(-1)!, vScales: tokens * heads.at(-1)! };
}

export function allocateBlock(layers: readonly LayerShape[], tokens: number): Float32Block {
  const { values } = blockSizes(layers, tokens);
  return { layers, tokens, precision: "float32", k: new Float32Array(values), v: new Float32Array(values) };
}

/** A block of zeros. */
export function emptyBlock(layers: readonly LayerShape[], tokens: number, precision: Precision): Block {
  const { values, kScales, vScales } = blockSizes(layers, tokens);
  switch (precision) {
    case "float32":
      return allocateBlock(layers, tokens);
    case "float16":
      return { layers, tokens, precision, k: new Uint16Array(values), v: new Uint16Array(values) };
    case "int8":
      return { layers, tokens, precision, k: new Int8Array(values), v: new Int8Array(values), kScales: new Float32Array(kScales), vScales: new Float32Array(vScales) };
  }
}

/** Bytes of a block's values and scales. */
export function blockBytes(block: Block): number {
  const values = block.k.byteLength + block.v.byteLength;
  return block.precision === "int8" ? values + block.kScales.byteLength + block.vScales.byteLength : values;
}

/** Whether a block is one of so many tokens in a model of this form. What is not must not be spliced. */
export function blockFits({ layers }: KvForm, tokens: number, block: Block): boolean {
  const alike = block.layers.length === layers.length && layers.every(({ heads, headSize }, i) => heads === block.layers[i]!.heads && headSize === block.layers[i]!.headSize);
  if (!alike || block.tokens !== tokens) return false;
  const { values, kScales, vScales } = blockSizes(layers, tokens);
  if (block.k.length !== values || block.v.length !== values) return false;
  return block.precision !== "int8" || (block.kScales.length === kScales && block.vScales.length === vScales);
}
