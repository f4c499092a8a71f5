import type { Logger } from "pino";
import type { TurnOrder } from "../chat/index.js";
import type { GeneratedToken, GenerateOptions, GenerationStats } from "../engine/index.js";
import { promptTokens } from "./metrics.js";
import type { PreparedRequest } from "./prepare.js";
import type { Service } from "./service.js";
import { AnswerTrace } from "./trace.js";

/** An answer whose first token is ready, so nothing can fail with its own status any more. Iterate it once. */
export type StartedAnswer = AsyncIterable<GeneratedToken> & {
  /** Resolves after the last token. */
  readonly stats: Promise<GenerationStats>;
  /** Known after iterating: its place among the conversation's turns, if servers share conversations. */
  readonly order: TurnOrder | undefined;
};

export type AnswerOptions = GenerateOptions & {
  readonly signal: AbortSignal;
  /** When the request arrived, by `performance.now()`. */
  readonly arrived: number;
  readonly log: Logger;
  /** Whether to read the KV of earlier answers and store its own; true by default. */
  readonly cached?: boolean;
  /** Text for the client after the answer, which the model does not see. */
  readonly appended?: string;
};

/** Gives each of several answers its own seed. */
export function nth(options: AnswerOptions, index: number): AnswerOptions {
  return options.seed === undefined ? options : { ...options, seed: options.seed + index };
}

/** Starts answering and resolves at the first token. The finished answer is counted, logged, and recorded in its conversation. */
export async function startAnswer(
  { plan, turn, maxNewTokens, stop, link, grammar, continues = false }: PreparedRequest,
  { model, store, metrics, level, elsewhere }: Service,
  { arrived, log, cached = true, appended = "", ...options }: AnswerOptions,
): Promise<StartedAnswer> {
  const spans = new AnswerTrace();
  const generation = model.generate(plan, {
    ...options,
    onPhase: spans.begin,
    onRead: spans.read,
    ...(cached && { store }),
    stop,
    continues,
    maxNewTokens,
    ...(link && { link }),
    ...(grammar && { grammar }),
    ...(cached && elsewhere && { elsewhere }),
    ...(turn && { keepAnswer: (tokens) => turn.keepAnswer(tokens) }),
  });
  try {
    await spans.within(async () => generation.begun);
  } catch (error) {
    spans.failed(error);
    throw error;
  }
  const first_ms = performance.now() - arrived;

  let order: TurnOrder | undefined;
  async function* tokens(): AsyncGenerator<GeneratedToken> {
    const ids: number[] = [];
    try {
      for await (const token of generation) {
        if (token.id >= 0) ids.push(token.id);
        yield token;
      }
      spans.ended(await generation.stats);
    } catch (error) {
      spans.failed(error);
      throw error;
    } finally {
      spans.failed(new Error("The answer was abandoned before its end."));
    }
    const stats = await generation.stats;
    metrics.answer(stats, first_ms, level?.isGood(first_ms, stats));
    level?.observe(stats, model.activity.running + 1);
    const { generated_tokens, per_token_ms, finish, warnings } = stats;
    log.info(
      {
        prompt_tokens: promptTokens(stats),
        cached_tokens: stats.cached_tokens,
        answer_tokens: generated_tokens,
        first_token_ms: Math.round(first_ms),
        per_token_ms,
        finish,
      },
      "answer",
    );
    for (const warning of warnings) log.warn(warning);
    const text = await generation.text;
    order = await turn?.answered({ text, shown: text + appended, tokens: ids, finish });
  }
  return {
    [Symbol.asyncIterator]: tokens,
    stats: generation.stats,
    get order() {
      return order;
    },
  };
}
