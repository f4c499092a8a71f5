import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/** Llama 1 to 3 and what is shaped like them: SmolLM 1 and 2, TinyLlama, Mistral's first models in GGUF. */
export function llama(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  return {
    ...readFrame(file),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) => readLayer(file, layer, sizes, { pairs: "interleaved" })),
  };
}
