import type { Logger } from "pino";
import type { GeneratedToken, GenerateOptions, GenerationStats } from "../engine/index.js";
import { cachedTokens, promptTokens } from "./metrics.js";
import type { Prompt } from "./prompt.js";
import type { Service } from "./service.js";

/** An answer whose first token is there: what may fail with a status of its own has not failed. Iterate it once, and leave it or come to its end. */
export type Answer = AsyncIterable<GeneratedToken> & {
  /** Known when the last token is. */
  readonly stats: Promise<GenerationStats>;
};

export type AnswerOptions = GenerateOptions & {
  readonly signal: AbortSignal;
  /** When the request arrived, by `performance.now()`. */
  readonly arrived: number;
  readonly log: Logger;
};

/** Begins to answer, and resolves at the first token. When the answer has ended it is counted and logged, and its conversation remembers it. */
export async function answer({ plan, turn, maxNewTokens, stop, link }: Prompt, { model, store, metrics }: Service, { arrived, log, ...options }: AnswerOptions): Promise<Answer> {
  const generation = model.generate(plan, { ...options, store, stop, maxNewTokens, ...(link && { link }), ...(turn && { keepAnswer: (tokens) => turn.keepAnswer(tokens) }) });
  await generation.begun;
  const first_ms = performance.now() - arrived;

  async function* tokens(): AsyncGenerator<GeneratedToken> {
    const ids: number[] = [];
    for await (const token of generation) {
      if (token.id >= 0) ids.push(token.id);
      yield token;
    }
    const stats = await generation.stats;
    metrics.answer(stats, first_ms);
    const { generated_tokens, per_token_ms, finish, warnings } = stats;
    log.info({ prompt_tokens: promptTokens(stats), cached_tokens: cachedTokens(stats), answer_tokens: generated_tokens, first_token_ms: Math.round(first_ms), per_token_ms, finish }, "answer");
    for (const warning of warnings) log.warn(warning);
    turn?.answered({ text: await generation.text, tokens: ids, finish });
  }
  return { [Symbol.asyncIterator]: tokens, stats: generation.stats };
}
