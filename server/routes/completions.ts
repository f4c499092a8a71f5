import { Hono } from "hono";
import { textPlan } from "../../chat/index.js";
import { inSlices } from "../../plan/index.js";
import { type AnswerOptions, nth, startAnswer } from "../answer.js";
import { readBody } from "../body.js";
import type { Environment } from "../environment.js";
import { ApiError } from "../error.js";
import { contextFor, mustFit, type PreparedRequest, withinContext } from "../prepare.js";
import { type CompletionRequest, completionRequest } from "../requests/completion.js";
import { samplingOf } from "../requests/sampling.js";
import { warningsOf } from "../requests/warnings.js";
import { respondFrom } from "../respond.js";
import type { Service, Shared } from "../service.js";
import { TextCompletion } from "../text-completion.js";

/** Maximum tokens of an answer if the request sets none: OpenAI's number. */
const ANSWER_TOKENS = 16;

/** `POST /v1/completions`: continues texts unchanged. Control tokens in them are recognised. */
export function completionRoutes(shared: Shared): Hono<Environment> {
  const { strict = false } = shared;
  const schema = completionRequest(strict);
  return new Hono<Environment>().post("/v1/completions", async (c) => {
    const { request, unread } = await readBody(c, schema);
    const count = request.best_of ?? request.n ?? 1;
    const scored = request.logprobs ?? (count > (request.n ?? 1) ? 0 : undefined);
    return respondFrom(
      c,
      shared,
      c.var.offers.find(request),
      { answers: count * request.prompt.length, stream: request.stream === true },
      async ({ service, signal, arrived, leave }) => {
        const { model, limits } = service;
        const texts = await Promise.all(request.prompt.map((prompt) => textPrompt(prompt, request, service, signal)));
        const options: AnswerOptions = {
          ...samplingOf({ ...request, logprobs: undefined }),
          ...(scored !== undefined && { logprobs: scored }),
          cached: request.cache_prompt !== false,
          signal,
          arrived,
          log: c.var.log,
          ...(c.var.client && { client: c.var.client }),
        };
        const prompts = await Promise.all(
          texts.map(async ({ text, prompt }) => ({
            text,
            prompt,
            answers: await Promise.all(Array.from({ length: count }, (_, index) => startAnswer(prompt, service, nth(options, index)))),
          })),
        );
        leave();
        return new TextCompletion({ request, prompts, warnings: warningsOf(request, unread, limits.contextTokens), model });
      },
    );
  });
}

async function textPrompt(
  given: string | readonly number[],
  request: CompletionRequest,
  whole: Service,
  signal: AbortSignal,
): Promise<{ readonly text: string; readonly prompt: PreparedRequest }> {
  const service = contextFor(request, whole);
  const { tokenizer, keyOf } = service.model;
  if (typeof given === "string") await mustFit(given, "prompt", service, { signal });
  const tokens =
    typeof given === "string"
      ? await inSlices(tokenizer, { most: Infinity, signal }, (reader) => [...tokenizer.begin, ...reader.encode(given, { control: true })])
      : given;
  if (tokens.length === 0)
    throw new ApiError(400, "The prompt is empty, and this model has no token for the beginning of a text.", {
      param: "prompt",
      code: "invalid_value",
    });
  const foreign = tokens.find((id) => id >= tokenizer.size);
  if (foreign !== undefined)
    throw new ApiError(400, `The prompt contains token ${foreign}, but this model has tokens 0 to ${tokenizer.size - 1}. Send text.`, {
      param: "prompt",
      code: "invalid_value",
    });
  if (tokens.length >= service.limits.contextTokens) {
    throw new ApiError(
      400,
      `The context holds ${service.limits.contextTokens} tokens, and the prompt takes ${tokens.length}. Shorten it.`,
      { param: "prompt", code: "context_length_exceeded" },
    );
  }
  const plan = textPlan(tokens, (source) => keyOf.call(service.model, source));
  const maxNewTokens = withinContext(request.max_tokens ?? ANSWER_TOKENS, plan, service.limits);
  return {
    text: typeof given === "string" ? given : tokenizer.decode(given),
    prompt: { plan, citations: [], maxNewTokens, stop: request.stop, continues: true, retrieve_ms: 0 },
  };
}
