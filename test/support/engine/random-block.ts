import type { Float32Block } from "../../../engine/kv/block.js";
import { numbersOf } from "./models/random.js";

/** Each block has different values, which are the same in every run of the same tests. */
const random = { state: 1 };

/** A block of 2 layers and 4 values per token. */
export function randomBlock(tokens: number): Float32Block {
  const values = () => numbersOf(random, 2 * tokens * 4);
  return {
    layers: [
      { heads: 1, headSize: 4 },
      { heads: 1, headSize: 4 },
    ],
    tokens,
    precision: "float32",
    k: values(),
    v: values(),
  };
}
