import { type KvForm, type LayerShape, layerOffsets } from "./form.js";

/** How a block's values are stored: in full, as IEEE 754 binary16, or as multiples of a scale. */
export const PRECISIONS = ["float32", "float16", "int8"] as const;
/** How a block's values are stored; `int8` by default. docs/precision.md gives the cost of each. */
export type Precision = (typeof PRECISIONS)[number];

/** A quarter of float32's bytes, and equally many correct answers: docs/precision.md has both figures. */
export const DEFAULT_PRECISION: Precision = "int8";

/**
 * The KV states of one block, without position: K as it is before the rotary embedding.
 * `k` and `v` are the layers' `[tokens, heads, head_size]`, one after the other.
 */
export type Block = Float32Block | Float16Block | Int8Block;

type Common = { readonly layers: readonly LayerShape[]; readonly tokens: number };

export type Float32Block = Common & { readonly precision: "float32"; readonly k: Float32Array; readonly v: Float32Array };

/** The values' bits. */
export type Float16Block = Common & { readonly precision: "float16"; readonly k: Uint16Array; readonly v: Uint16Array };

/**
 * A value is its int8 times a scale. K has outliers in some channels, across all tokens, and V in some tokens. So K's scales
 * are per channel over `GROUP_TOKENS` tokens, and V's per token and head (KIVI, Liu et al. 2024; KVQuant, Hooper et al. 2024).
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
export function blockSizes(
  layers: readonly LayerShape[],
  tokens: number,
): { readonly values: number; readonly kScales: number; readonly vScales: number } {
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
      return {
        layers,
        tokens,
        precision,
        k: new Int8Array(values),
        v: new Int8Array(values),
        kScales: new Float32Array(kScales),
        vScales: new Float32Array(vScales),
      };
  }
}

/** A block's values and scales, those with the largest element size first, for alignment. */
export function arraysOf(block: Block): readonly (Float32Array | Uint16Array | Int8Array)[] {
  return block.precision === "int8" ? [block.kScales, block.vScales, block.k, block.v] : [block.k, block.v];
}

/** Bytes of a block's values and scales. */
export function blockBytes(block: Block): number {
  return arraysOf(block).reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** A copy of a block in memory with room for it (`blockBytes`). */
export function copyBlock(block: Block, memory: ArrayBufferLike): Block {
  let at = 0;
  const copy = <T extends Float32Array | Uint16Array | Int8Array>(values: T): T => {
    new Uint8Array(memory, at).set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    const copied = new (values.constructor as new (memory: ArrayBufferLike, at: number, length: number) => T)(memory, at, values.length);
    at += values.byteLength;
    return copied;
  };
  switch (block.precision) {
    case "float32":
      return { ...block, k: copy(block.k), v: copy(block.v) };
    case "float16":
      return { ...block, k: copy(block.k), v: copy(block.v) };
    case "int8":
      return { ...block, kScales: copy(block.kScales), vScales: copy(block.vScales), k: copy(block.k), v: copy(block.v) };
  }
}

/** Whether a block has this many tokens and the form of this model. A block that does not must not be spliced. */
export function blockFits({ layers }: KvForm, tokens: number, block: Block): boolean {
  const alike =
    block.layers.length === layers.length &&
    layers.every(({ heads, headSize }, i) => heads === block.layers[i]!.heads && headSize === block.layers[i]!.headSize);
  if (!alike || block.tokens !== tokens) return false;
  const { values, kScales, vScales } = blockSizes(layers, tokens);
  if (block.k.length !== values || block.v.length !== values) return false;
  return block.precision !== "int8" || (block.kScales.length === kScales && block.vScales.length === vScales);
}
