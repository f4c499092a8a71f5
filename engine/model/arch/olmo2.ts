import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes, readWindows } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary, unscaledRotary } from "./rotary.js";

/**
 * OLMo 2 and 3: norms only after attention and feed-forward, one norm over all queries of a token, and one over all keys.
 * OLMo 3 has windows in three of four layers, where the rotary embedding is not scaled.
 */
export function olmo2(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  const windows = readWindows(file, sizes.layers, { every: 4 });
  const near = unscaledRotary(rotary.dimensions, file.number("rope.freq_base", 10_000));
  return {
    ...readFrame(file),
    variant,
    rotaries: windows.some((window) => window !== undefined) ? [rotary, near] : [rotary],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, {
        pairs: "halves",
        norms: "after",
        headNorms: "row",
        window: windows[layer],
        rotary: windows[layer] === undefined ? 0 : 1,
      }),
    ),
  };
}
