import type { TurnOrder } from "../chat/index.js";
import type { GenerationStats } from "../engine/index.js";
import { promptTokens } from "./metrics.js";
import type { PreparedRequest } from "./prepare.js";

/** The token usage of a prompt's answers, counted as OpenAI does: the prompt once. */
export function usageOf(answers: readonly GenerationStats[]) {
  const [first] = answers;
  const prompt_tokens = promptTokens(first!);
  const completion_tokens = answers.reduce((sum, { generated_tokens }) => sum + generated_tokens, 0);
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens: first!.cached_tokens },
  };
}

/** What an answer cost, in addition to OpenAI's fields. */
export function costOf({ retrieve_ms, found, turn }: PreparedRequest, stats: GenerationStats, order?: TurnOrder) {
  const {
    queue_ms,
    fetch_ms,
    splice_ms,
    look_ms,
    recomputed_tokens,
    first_token_ms,
    per_token_ms,
    total_ms,
    encoded_tokens,
    computed_tokens,
  } = stats;
  const times = { retrieve_ms, queue_ms, fetch_ms, splice_ms, look_ms, first_token_ms, per_token_ms, total_ms };
  return {
    ...times,
    cached_tokens: stats.cached_tokens,
    encoded_tokens,
    computed_tokens,
    recomputed_tokens,
    dropped_exchanges: turn?.dropped ?? 0,
    ...(found === false && { found }),
    ...(stats.elsewhere_tokens > 0 && { elsewhere_tokens: stats.elsewhere_tokens, elsewhere_ms: stats.elsewhere_ms }),
    ...(order && { conversation: order }),
  };
}

/** @param called whether the answer calls functions */
export function finishReason({ finish }: GenerationStats, called = false): "stop" | "length" | "tool_calls" {
  return finish === "length" ? "length" : called ? "tool_calls" : "stop";
}
