import type { Float32Block } from "../../engine/kv/block.js";

/** A block of 2 layers and 4 values a token. */
export function randomBlock(tokens: number): Float32Block {
  const values = () => Float32Array.from({ length: 2 * tokens * 4 }, () => Math.random() - 0.5);
  return { layers: [{ heads: 1, headSize: 4 }, { heads: 1, headSize: 4 }], tokens, precision: "float32", k: values(), v: values() };
}
