import type { Config } from "./config.js";

/** Tensors `[length]` that a GGUF has for a rotary embedding. */
export type RopeTensors = Readonly<Record<string, Float32Array>>;

/**
 * The rotary embedding of a configuration, as GGUF's keys and tensors. Llama 3's and LongRoPE's scaling become lists of
 * divisors there.
 *
 * @throws KvspliceError `bad_model` for a scaling that GGUF does not have
 */
export function readRope(
  config: Config,
  headSize: number,
): { readonly keys: Readonly<Record<string, unknown>>; readonly tensors: RopeTensors } {
  const { theta, type, values } = config.ropeOf("full_attention");
  const number = (key: string, fallback?: number): number => {
    const value = values[key] ?? fallback;
    if (typeof value !== "number") throw config.wrong("rope_scaling", `has no ${key}`);
    return value;
  };
  const share = Number(values["partial_rotary_factor"] ?? config.number("partial_rotary_factor", 1));
  const dimensions = Math.trunc(headSize * share);
  const keys = { "rope.freq_base": theta, "rope.dimension_count": dimensions };
  const context = config.number("max_position_embeddings");
  const original = () => number("original_max_position_embeddings", config.number("original_max_position_embeddings", context));
  switch (type) {
    case "default":
      return { keys, tensors: {} };
    case "linear":
      return { keys: { ...keys, "rope.scaling.type": "linear", "rope.scaling.factor": number("factor") }, tensors: {} };
    case "llama3":
      return {
        keys,
        tensors: {
          "rope_freqs.weight": llama3Divisors(
            dimensions,
            theta,
            number("factor"),
            number("low_freq_factor"),
            number("high_freq_factor"),
            original(),
          ),
        },
      };
    case "yarn": {
      for (const key of ["attention_factor", "mscale", "mscale_all_dim"]) {
        if (values[key] !== undefined && values[key] !== null) throw config.wrong("rope_scaling", `has ${key}, which is not supported`);
      }
      const scaling = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": number("factor"),
        "rope.scaling.original_context_length": original(),
      };
      const ramp = { "rope.scaling.yarn_beta_fast": number("beta_fast", 32), "rope.scaling.yarn_beta_slow": number("beta_slow", 1) };
      // A key specific to kvsplice: llama.cpp always rounds the ramp to whole dimensions.
      const whole = values["truncate"] === false ? { "rope.scaling.yarn_truncate": false } : {};
      return { keys: { ...keys, ...scaling, ...ramp, ...whole }, tensors: {} };
    }
    case "longrope":
    case "su": {
      const factor = context / original();
      const magnitude = number("attention_factor", factor > 1 ? Math.sqrt(1 + Math.log(factor) / Math.log(original())) : 1);
      const list = (key: string) => {
        const list = values[key];
        if (!Array.isArray(list) || list.length !== dimensions / 2)
          throw config.wrong("rope_scaling", `has no ${key} of ${dimensions / 2} numbers`);
        return Float32Array.from(list as number[]);
      };
      return {
        keys: { ...keys, "rope.scaling.original_context_length": original(), "rope.scaling.attn_factor": magnitude },
        tensors: { "rope_factors_long.weight": list("long_factor"), "rope_factors_short.weight": list("short_factor") },
      };
    }
    default:
      throw config.wrong("rope_scaling", `has the type ${type}, which is not supported`);
  }
}

/** What Llama 3.1 divides each frequency by: slow ones by the factor, fast ones by 1, and those in between by a blend. */
function llama3Divisors(dimensions: number, theta: number, factor: number, low: number, high: number, original: number): Float32Array {
  return Float32Array.from({ length: dimensions / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / dimensions);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
