import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/** Qwen 2 and 2.5, including Coder: Llama with biases on Q, K and V, and with the halves of each head rotated together. */
export function qwen2(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  return {
    ...readFrame(file),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) => readLayer(file, layer, sizes, { pairs: "halves" })),
  };
}
