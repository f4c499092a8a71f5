import { endOf, type Plan } from "../../plan/index.js";
import { ApiError } from "../error.js";
import type { Service } from "../service.js";
import type { AskEvent, RunName } from "./events.js";

export type Runner = { readonly name: RunName; readonly plan: Plan };

/**
 * Answers by each plan, one after the other: side by side they would share the cores, and neither's time would be its
 * own. A full prefill is for comparison, so the spliced run alone is counted among the server's answers.
 */
export async function* race(runners: readonly Runner[], service: Service, signal: AbortSignal): AsyncGenerator<AskEvent> {
  const { model, store, metrics } = service;
  for (const { name, plan } of runners) {
    const maxNewTokens = answerTokens(plan, service);
    yield { type: "start", run: name };
    const start = performance.now();
    const generation = model.generate(plan, { store, signal, maxNewTokens });
    for await (const { text } of generation) yield { type: "token", run: name, text, at_ms: performance.now() - start };
    const stats = await generation.stats;
    if (name === "spliced") metrics.answer(stats, stats.first_token_ms);
    const { queue_ms, fetch_ms, splice_ms, first_token_ms, per_token_ms } = stats;
    yield { type: "done", run: name, stats: { queue_ms, fetch_ms, splice_ms, first_token_ms, per_token_ms } };
  }
}

/** @throws ApiError 400 where the server's context has no room for the prompt and an answer */
function answerTokens({ pieces }: Plan, { model, limits }: Service): number {
  const end = Math.max(0, ...pieces.map(endOf));
  const room = limits.contextTokens - end;
  if (room < 1) {
    throw new ApiError(400, `This server's context holds ${limits.contextTokens} tokens, and the prompt reaches ${end}; ask over fewer documents.`, { code: "context_length_exceeded" });
  }
  return Math.min(model.card.maxAnswerTokens, room);
}
