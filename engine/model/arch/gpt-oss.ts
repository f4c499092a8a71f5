import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes, readWindows } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/** gpt-oss: experts with biases, attention sinks, and a window in every other layer. */
export function gptOss(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  const windows = readWindows(file, sizes.layers, { every: 2 });
  return {
    ...readFrame(file),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, {
        pairs: "halves",
        activation: "clamped",
        sinks: true,
        window: windows[layer],
        feedForwardNorm: "post_attention_norm",
      }),
    ),
  };
}
