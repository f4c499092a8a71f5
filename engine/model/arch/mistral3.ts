import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/**
 * Mistral's models since Ministral 3. Some scale queries up with their position (`temperature_scale`), though not within the
 * context that the model was first trained on: such a model is used only with that many positions.
 */
export function mistral3(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  const frame = readFrame(file);
  const enlarged = (file.optionalNumber("attention.temperature_scale") ?? 0) !== 0;
  const original = file.count("rope.scaling.original_context_length", frame.contextLength);
  return {
    ...frame,
    contextLength: enlarged ? Math.min(frame.contextLength, original) : frame.contextLength,
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) => readLayer(file, layer, sizes, { pairs: "interleaved" })),
  };
}
