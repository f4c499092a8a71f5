import type { SamplingOptions } from "../sampling.js";

/** llama.cpp's keys for the sampling that a model's makers recommend, and ours. */
const KEYS = { temp: "temperature", top_p: "topP", top_k: "topK", min_p: "minP" } as const;

/** The sampling set in a file. Invalid numbers are ignored, as is a top-k of 0, which means all tokens. */
export function samplingOf(metadata: Readonly<Record<string, unknown>>): SamplingOptions {
  const named = Object.entries(KEYS).map(([key, option]) => [option, Number(metadata[`general.sampling.${key}`])] as const);
  return Object.fromEntries(named.filter(([option, value]) => value > 0 && ((option !== "topP" && option !== "minP") || value <= 1)));
}
