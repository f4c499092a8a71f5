import { type RotarySpec, rotaryFrequencies } from "../../kv/rotary.js";
import type { SpecReader } from "./reader.js";

/** YaRN's default ramp: rotations within the original context above which a frequency stays, and below which it is stretched. */
const BETA_FAST = 32;
const BETA_SLOW = 1;

/** A rotary embedding, and which of several lists of factors it uses. */
export type ChosenRotary = { readonly rotary: RotarySpec; readonly variant: string };

/**
 * The rotary embedding given by the usual keys and tensors, read as llama.cpp does: a factor without a type means linear
 * scaling; `rope_freqs` (Llama 3) divides each frequency, and so do LongRoPE's factors (Ding et al. 2024), the long ones if
 * the model is opened for more positions than it was first trained on; YaRN (Peng et al. 2023) stretches the slow
 * frequencies and scales up queries and keys.
 * @param options `longRope`: whether the family has LongRoPE's factors without saying so
 */
export function readRotary(file: SpecReader, headSize: number, { longRope = false } = {}): ChosenRotary {
  const dimensions = file.count("rope.dimension_count", headSize);
  if (dimensions > headSize || dimensions % 2 !== 0)
    throw file.wrong("rope.dimension_count", `is ${dimensions}; it must be an even number up to ${headSize}`);
  const base = file.number("rope.freq_base", 10_000);
  const type = file.text("rope.scaling.type") ?? "linear";
  const given = file.optionalNumber("rope.scaling.factor") ?? file.optionalNumber("rope.scale_linear") ?? 0;
  const original = file.count("rope.scaling.original_context_length", file.count("context_length"));
  const enlarged = file.number("rope.scaling.attn_factor", 1);
  const factor = given === 0 || type === "none" ? 1 : given;
  if (factor < 0) throw file.wrong("rope.scaling.factor", `is ${given}; it must be positive`);

  const { factors, variant } = readFactors(file, { dimensions, original, long: longRope || type === "longrope" });
  const plain = rotaryFrequencies(dimensions, base).map((frequency, i) => frequency / (factors?.[i] ?? 1));
  switch (type) {
    case "none":
    case "linear":
    case "longrope":
      return { rotary: { dimensions, frequencies: plain.map((frequency) => frequency / factor), magnitude: enlarged }, variant };
    case "yarn": {
      const keep = yarnShares(file, { dimensions, base, original });
      const frequencies = plain.map((frequency, i) => frequency * (keep[i]! + (1 - keep[i]!) / factor));
      return { rotary: { dimensions, frequencies, magnitude: yarnMagnitude(file, factor) * enlarged }, variant };
    }
    default:
      throw file.wrong("rope.scaling.type", `is ${type}, which is not supported`);
  }
}

/** A rotary embedding defined by its base only. */
export function unscaledRotary(dimensions: number, base: number): RotarySpec {
  return { dimensions, frequencies: rotaryFrequencies(dimensions, base), magnitude: 1 };
}

/** The divisors of the frequencies, and which of two lists they are. */
function readFactors(file: SpecReader, of: { readonly dimensions: number; readonly original: number; readonly long: boolean }) {
  const variant = file.contextLength > of.original ? "long" : "short";
  const chosen = of.long ? file.optionalValues(`rope_factors_${variant}.weight`) : undefined;
  const other = of.long && file.optionalTensor(`rope_factors_${variant === "long" ? "short" : "long"}.weight`);
  if (!chosen && other)
    throw file.wrong("rope.scaling.original_context_length", `requires the ${variant} frequency factors, but the file has none`);
  const factors = file.optionalValues("rope_freqs.weight") ?? chosen;
  if (factors && factors.length !== of.dimensions / 2) {
    throw file.wrong("rope.dimension_count", `is ${of.dimensions}, but the file has ${factors.length} frequency factors`);
  }
  return { factors, variant: chosen ? variant : "" };
}

/** How much of each frequency stays: all of those that rotate often within the original context, none of those that hardly rotate. */
function yarnShares(file: SpecReader, { dimensions, base, original }: { dimensions: number; base: number; original: number }): number[] {
  const [fast, slow] = [file.number("rope.scaling.yarn_beta_fast", BETA_FAST), file.number("rope.scaling.yarn_beta_slow", BETA_SLOW)];
  const indexOf = (turns: number) => (dimensions * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [down, up] = file.flag("rope.scaling.yarn_truncate") === false ? [Number, Number] : [Math.floor, Math.ceil];
  const [low, high] = [Math.max(0, down(indexOf(fast))), Math.min(dimensions - 1, up(indexOf(slow)))];
  return Array.from({ length: dimensions / 2 }, (_, i) => 1 - Math.min(1, Math.max(0, (i - low) / Math.max(0.001, high - low))));
}

/** The scale of queries and keys. A file whose value does not follow from the factor would not be read as in llama.cpp. */
function yarnMagnitude(file: SpecReader, factor: number): number {
  const share = file.optionalNumber("rope.scaling.yarn_log_multiplier");
  const of = (share: number) => (factor <= 1 ? 1 : 0.1 * share * Math.log(factor) + 1);
  const magnitude = share ? of(1) / of(share) : of(1);
  const told = file.number("rope.scaling.yarn_attn_factor", magnitude);
  if (Math.abs(told - magnitude) > 0.001)
    throw file.wrong("rope.scaling.yarn_attn_factor", `is ${told}; only ${magnitude}, which follows from the factor, is supported`);
  if (file.number("rope.scaling.yarn_ext_factor", 1) !== 1)
    throw file.wrong("rope.scaling.yarn_ext_factor", "is not 1, which is not supported");
  return magnitude;
}
