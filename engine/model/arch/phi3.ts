import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/**
 * Phi 3, 3.5 and 4: Q, K and V in one tensor, gate and up in one; LongRoPE; in Phi 4 mini only part of each head is rotated.
 * The window in Phi 3's configuration is not applied to a GGUF, as in llama.cpp; transformers does apply it.
 */
export function phi3(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize, { longRope: true });
  const window = file.optionalNumber("attention.sliding_window");
  return {
    ...readFrame(file),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, {
        pairs: "halves",
        fusedGate: true,
        window: file.origin === "huggingface" && window ? window : undefined,
      }),
    ),
  };
}
