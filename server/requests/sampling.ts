import { z } from "zod";
import type { GenerateOptions } from "../../engine/index.js";

const MAX_TOP_LOGPROBS = 20;
/** OpenAI's bounds. */
const MAX_PENALTY = 2;
const MAX_BIAS = 100;

const penalty = z.number().min(-MAX_PENALTY).max(MAX_PENALTY).nullish();
/** Values above 1 discourage repetition. Other servers use either name. */
const repetition = z.number().gt(0).max(10).nullish();

/** How an answer's tokens are sampled: OpenAI's fields, and those that vLLM, llama.cpp and others add. */
export const samplingFields = {
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  /** 0 and -1 mean all. */
  top_k: z.int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  seed: z.int().nullish(),
  frequency_penalty: penalty,
  presence_penalty: penalty,
  repetition_penalty: repetition,
  repeat_penalty: repetition,
  logit_bias: z
    .record(z.string().regex(/^\d+$/, "expected token ids, as /tokenize returns them"), z.number().min(-MAX_BIAS).max(MAX_BIAS))
    .nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
};

type SamplingFields = { readonly [Name in keyof typeof samplingFields]?: z.output<(typeof samplingFields)[Name]> };

/** The engine's options for these fields. */
export function samplingOf(request: SamplingFields): GenerateOptions {
  const { temperature, top_p, top_k, min_p, seed, frequency_penalty, presence_penalty, logit_bias } = request;
  const repetitionPenalty = request.repetition_penalty ?? request.repeat_penalty;
  return {
    ...(temperature != null && { temperature }),
    ...(top_p != null && { topP: top_p }),
    ...(top_k != null && { topK: top_k > 0 ? top_k : Infinity }),
    ...(min_p != null && { minP: min_p }),
    ...(seed != null && { seed }),
    ...(frequency_penalty != null && { frequencyPenalty: frequency_penalty }),
    ...(presence_penalty != null && { presencePenalty: presence_penalty }),
    ...(repetitionPenalty != null && { repetitionPenalty }),
    ...(logit_bias != null && { logitBias: new Map(Object.entries(logit_bias).map(([id, bias]) => [Number(id), bias])) }),
    ...(request.logprobs === true && { logprobs: request.top_logprobs ?? 0 }),
  };
}
