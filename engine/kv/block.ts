/** What one token's KV is made of in this model. */
export type KvShape = {
  readonly layers: number;
  /** kv_heads * head_size: the length of one token's K (or V) in one layer. */
  readonly width: number;
};

/** How a block's values are kept: whole, as IEEE 754 binary16, or as multiples of a scale. */
export const PRECISIONS = ["float32", "float16", "int8"] as const;
export type Precision = (typeof PRECISIONS)[number];

/** A quarter of float32's bytes, and as many right answers: docs/precision.md has both. */
export const DEFAULT_PRECISION: Precision = "int8";

/**
 * The KV states of one block, without position: K is kept before the rotary embedding.
 * `k` and `v` are `[layers, tokens, kv_heads, head_size]` each.
 */
export type Block = Float32Block | Float16Block | Int8Block;

type Common = KvShape & { readonly tokens: number };

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
  /** `[layers, ceil(tokens / GROUP_TOKENS), kv_heads, head_size]` */
  readonly kScales: Float32Array;
  /** `[layers, tokens, kv_heads]` */
  readonly vScales: Float32Array;
};

/** Tokens that share the scale of a K channel: a chunk is mostly one group. */
export const GROUP_TOKENS = 160;

export function allocateBlock(shape: KvShape, tokens: number): Float32Block {
  const size = shape.layers * tokens * shape.width;
  return { layers: shape.layers, width: shape.width, tokens, precision: "float32", k: new Float32Array(size), v: new Float32Array(size) };
}

/** A block of zeros. */
export function emptyBlock(shape: KvShape, tokens: number, precision: Precision, headSize: number): Block {
  const { layers, width } = shape;
  const size = layers * tokens * width;
  const common = { layers, width, tokens };
  switch (precision) {
    case "float32":
      return allocateBlock(shape, tokens);
    case "float16":
      return { ...common, precision, k: new Uint16Array(size), v: new Uint16Array(size) };
    case "int8": {
      const kScales = new Float32Array(layers * Math.ceil(tokens / GROUP_TOKENS) * width);
      return { ...common, precision, k: new Int8Array(size), v: new Int8Array(size), kScales, vScales: new Float32Array(size / headSize) };
    }
  }
}

/** Bytes of a block's values and scales. */
export function blockBytes(block: Block): number {
  const values = block.k.byteLength + block.v.byteLength;
  return block.precision === "int8" ? values + block.kScales.byteLength + block.vScales.byteLength : values;
}
