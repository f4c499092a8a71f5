import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/**
 * Llama 1 to 3 and models of the same shape: SmolLM 1 and 2, TinyLlama, all but the newest of Mistral's. The window of Mistral
 * 7B v0.1 is not applied to a GGUF, as in llama.cpp; transformers does apply it.
 */
export function llama(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  const window = file.optionalNumber("attention.sliding_window");
  return {
    ...readFrame(file),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, { pairs: "interleaved", window: file.origin === "huggingface" && window ? window : undefined }),
    ),
  };
}
