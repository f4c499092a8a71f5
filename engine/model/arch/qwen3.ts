import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/** Qwen 3, dense or with experts: each head of queries and keys has an RMS norm. */
export function qwen3(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  return {
    ...readFrame(file),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) => readLayer(file, layer, sizes, { pairs: "halves", headNorms: "head" })),
  };
}
