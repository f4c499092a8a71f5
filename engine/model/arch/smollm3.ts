import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/** One layer in this many has no rotary embedding (NoPE: Kazemnejad et al. 2023); GGUF has no key for it. */
const STEP = 4;

/** SmolLM 3: Llama, with some layers that use no positions. */
export function smollm3(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  return {
    ...readFrame(file),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, { pairs: "interleaved", rotary: (layer + 1) % STEP === 0 ? "none" : 0 }),
    ),
  };
}
