import type { ModelSpec } from "../spec.js";
import { eachLayer, readFrame, readLayer, readSizes, readWindows, type Sizes } from "./parts.js";
import type { SpecReader } from "./reader.js";
import { readRotary, unscaledRotary } from "./rotary.js";

/** Gemma: a scaled embedding, and GELU. */
export function gemma(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  return {
    ...gemmaFrame(file, undefined),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) => readLayer(file, layer, sizes, { pairs: "halves", activation: "gelu" })),
  };
}

/** Gemma 2: norms before and after, soft-caps on scores and logits, and a window in every other layer. */
export function gemma2(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  const windows = readWindows(file, sizes.layers, { every: 2, fallback: 4096 });
  const softCap = file.number("attn_logit_softcapping", 50);
  const scale = scoreScale(file, sizes, GEMMA2_27B_LAYERS);
  return {
    ...gemmaFrame(file, file.number("final_logit_softcapping", 30)),
    variant,
    rotaries: [rotary],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, { pairs: "halves", norms: "both", activation: "gelu", window: windows[layer], scale, softCap }),
    ),
  };
}

/** Gemma 3, its text part: RMS norms of queries and keys; five of six layers have a window, and a separate rotary base. */
export function gemma3(file: SpecReader): ModelSpec {
  const sizes = readSizes(file);
  const { rotary, variant } = readRotary(file, sizes.headSize);
  const near = unscaledRotary(rotary.dimensions, file.number("rope.freq_base_swa", 10_000));
  const windows = readWindows(file, sizes.layers, { every: 6 });
  const scale = scoreScale(file, sizes, GEMMA3_27B_LAYERS);
  return {
    ...gemmaFrame(file, file.optionalNumber("final_logit_softcapping") || undefined),
    variant,
    rotaries: windows.some((window) => window !== undefined) ? [rotary, near] : [rotary],
    layers: eachLayer(sizes, (layer) =>
      readLayer(file, layer, sizes, {
        pairs: "halves",
        norms: "both",
        headNorms: "head",
        activation: "gelu",
        window: windows[layer],
        rotary: windows[layer] === undefined ? 0 : 1,
        scale,
      }),
    ),
  };
}

/** The embedding times the root of its size. */
function gemmaFrame(file: SpecReader, softCap: number | undefined): ReturnType<typeof readFrame> {
  const frame = readFrame(file);
  return { ...frame, embedding: { ...frame.embedding, scale: Math.sqrt(frame.hidden) }, head: { ...frame.head, softCap } };
}

const GEMMA2_27B_LAYERS = 46;
const GEMMA3_27B_LAYERS = 62;

/**
 * A Hugging Face folder gives the scale. GGUF files do not: for them, the 27B models divide scores by the root of
 * hidden / heads, which is not their head size.
 */
function scoreScale(file: SpecReader, { layers, hidden, heads, headSize }: Sizes, of27B: number): number {
  return file.number("attention.scale", 1 / Math.sqrt(layers === of27B ? hidden / heads : headSize));
}
