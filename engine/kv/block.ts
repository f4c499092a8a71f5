/** What one token's KV is made of in this model. */
export type KvShape = {
  readonly layers: number;
  /** kv_heads * head_size: the length of one token's K (or V) in one layer. */
  readonly width: number;
};

/** The KV states of one block, without position: K is kept before the rotary embedding. */
export type Block = KvShape & {
  readonly tokens: number;
  /** `[layers, tokens, kv_heads, head_size]` */
  readonly k: Float32Array;
  /** `[layers, tokens, kv_heads, head_size]` */
  readonly v: Float32Array;
};

export function allocateBlock(shape: KvShape, tokens: number): Block {
  const size = shape.layers * tokens * shape.width;
  return { layers: shape.layers, width: shape.width, tokens, k: new Float32Array(size), v: new Float32Array(size) };
}
