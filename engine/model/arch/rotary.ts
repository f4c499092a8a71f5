import { rotaryFrequencies, type RotarySpec } from "../../kv/rotary.js";
import type { SpecReader } from "./reader.js";

/** YaRN's ramp, where a file does not tell: turns within the original context that are kept whole, and that are stretched. */
const BETA_FAST = 32;
const BETA_SLOW = 1;

/** A rotary embedding, and which of several lists of factors was chosen for it. */
export type ChosenRotary = { readonly rotary: RotarySpec; readonly variant: string };

/**
 * The rotary embedding as the usual keys and tensors tell it, read as llama.cpp does: a factor without a type is linear
 * scaling; `rope_freqs` (Llama 3) divides each frequency, and so do LongRoPE's factors (Ding et al. 2024), the long ones
 * where the model is opened for more positions than it was first trained on; YaRN (Peng et al. 2023) stretches the slow
 * frequencies and enlarges queries and keys.
 * @param options `longRope`: whether the family has LongRoPE's factors without saying so
 */
export function readRotary(file: SpecReader, headSize: number, { longRope = false } = {}): ChosenRotary {
  const dimensions = file.count("rope.dimension_count", headSize);
  if (dimensions > headSize || dimensions % 2 !== 0) throw file.wrong("rope.dimension_count", `is ${dimensions}, where an even number up to ${headSize} is due`);
  const base = file.number("rope.freq_base", 10_000);
  const type = file.text("rope.scaling.type") ?? "linear";
  const given = file.optionalNumber("rope.scaling.factor") ?? file.optionalNumber("rope.scale_linear") ?? 0;
  const original = file.count("rope.scaling.original_context_length", file.count("context_length"));
  const enlarged = file.number("rope.scaling.attn_factor", 1);
  const factor = given === 0 || type === "none" ? 1 : given;
  if (factor < 0) throw file.wrong("rope.scaling.factor", `is ${given}, where a positive number is due`);

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

/** A rotary embedding of a base alone. */
export function unscaledRotary(dimensions: number, base: number): RotarySpec {
  return { dimensions, frequencies: rotaryFrequencies(dimensions, base), magnitude: 1 };
}

/** What divides each frequency, and which of two lists that is. */
function readFactors(file: SpecReader, of: { readonly dimensions: number; readonly original: number; readonly long: boolean }) {
  const variant = file.contextLength > of.original ? "long" : "short";
  const chosen = of.long ? file.optionalValues(`rope_factors_${variant}.weight`) : undefined;
  const other = of.long && file.optionalTensor(`rope_factors_${variant === "long" ? "short" : "long"}.weight`);
  if (!chosen && other) throw file.wrong("rope.scaling.original_context_length", `asks for the ${variant} factors of frequencies, and the file has none`);
  const factors = file.optionalValues("rope_freqs.weight") ?? chosen;
  if (factors && factors.length !== of.dimensions / 2) {
    throw file.wrong("rope.dimension_count", `is ${of.dimensions}, and the file has ${factors.length} factors of frequencies`);
  }
  return { factors, variant: chosen ? variant : "" };
}

/** How far each frequency stays as it is: those that turn often within the original context do, those that hardly turn do not. */
function yarnShares(file: SpecReader, { dimensions, base, original }: { dimensions: number; base: number; original: number }): number[] {
  const [fast, slow] = [file.number("rope.scaling.yarn_beta_fast", BETA_FAST), file.number("rope.scaling.yarn_beta_slow", BETA_SLOW)];
  const indexOf = (turns: number) => (dimensions * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [low, high] = [Math.max(0, Math.floor(indexOf(fast))), Math.min(dimensions - 1, Math.ceil(indexOf(slow)))];
  return Array.from({ length: dimensions / 2 }, (_, i) => 1 - Math.min(1, Math.max(0, (i - low) / Math.max(0.001, high - low))));
}

/** What queries and keys grow by; a file that tells another than follows from the factor is not read as llama.cpp reads it. */
function yarnMagnitude(file: SpecReader, factor: number): number {
  const share = file.optionalNumber("rope.scaling.yarn_log_multiplier");
  const of = (share: number) => (factor <= 1 ? 1 : 0.1 * share * Math.log(factor) + 1);
  const magnitude = share ? of(1) / of(share) : of(1);
  const told = file.number("rope.scaling.yarn_attn_factor", magnitude);
  if (Math.abs(told - magnitude) > 0.001) throw file.wrong("rope.scaling.yarn_attn_factor", `is ${told}, and only the ${magnitude} that follows from the factor is supported`);
  if (file.number("rope.scaling.yarn_ext_factor", 1) !== 1) throw file.wrong("rope.scaling.yarn_ext_factor", "is not 1, which is not supported");
  return magnitude;
}
