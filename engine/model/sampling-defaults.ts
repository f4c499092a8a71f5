import type { SamplingOptions } from "../sampling.js";

/** llama.cpp's keys for how a model's makers would have answers drawn, and ours. */
const KEYS = { temp: "temperature", top_p: "topP", top_k: "topK" } as const;

/** The sampling that a file names; a number that cannot be one is passed over, as is a top-k of 0, which stands for all. */
export function samplingOf(metadata: Readonly<Record<string, unknown>>): SamplingOptions {
  const named = Object.entries(KEYS).map(([key, option]) => [option, Number(metadata[`general.sampling.${key}`])] as const);
  return Object.fromEntries(named.filter(([option, value]) => value > 0 && (option !== "topP" || value <= 1)));
}
