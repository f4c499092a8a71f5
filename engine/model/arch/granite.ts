import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary } from "./rotary.js";

/** Granite 3, and dense versions of 4: Llama, with factors on the embedding, the residual branches, the scores and the logits. */
export function granite(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  const frame = readFrame(file);
  // 0 stands for a factor that is not given.
  const factor = (key: string, otherwise: number) => file.optionalNumber(key) || otherwise;
  const scale = factor("attention.scale", 1 / Math.sqrt(sizes.headSize));
  const residualScale = factor("residual_scale", 1);
  // Elsewhere this key is only a remark about scaling; here it says whether positions are used at all.
  const turned = file.flag("rope.scaling.finetuned") ?? true;
  return {
    ...frame,
    variant,
    embedding: { ...frame.embedding, scale: factor("embedding_scale", 1) },
    head: { ...frame.head, scale: 1 / file.number("logit_scale") },
    rotaries: turned ? [rotary] : [],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, { pairs: "interleaved", rotary: turned ? 0 : "none", scale, residualScale }),
    ),
  };
}
