import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import type { GeneratedToken, GenerateOptions, Generation, GenerationStats, Tokenizer } from "../../engine/index.js";
import { readJson } from "../body.js";
import { chatRequest, stopsOf, type ChatRequest } from "../chat-request.js";
import { apiErrorOf } from "../error.js";
import type { Environment } from "../environment.js";
import { eventStream } from "../event-stream.js";
import { promptOf, type Prompt } from "../prompt.js";
import { requestSignal } from "../request-signal.js";
import type { Service } from "../service.js";
import { mustBeModel } from "./models.js";

/** An answer whose first token is there: what may fail with a status of its own has not failed. */
type Begun = { readonly first: IteratorResult<GeneratedToken>; readonly rest: AsyncIterator<GeneratedToken>; readonly generation: Generation };

/** `POST /v1/chat/completions` */
export function chatRoutes(service: Service): Hono<Environment> {
  return new Hono<Environment>().post("/v1/chat/completions", async (c) => {
    const request = await readJson(c, chatRequest);
    mustBeModel(request.model, service.model.name);
    const leave = service.waiting.enter();
    const ending = requestSignal(c.req.raw.signal, service.limits.request_ms);
    const finish = () => {
      leave();
      ending.dispose();
    };
    try {
      const prompt = await promptOf(request, service, ending.signal);
      const begun = await begin(service.model.generate(prompt.plan, optionsOf(request, prompt, service, ending.signal)));
      leave();
      const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: service.model.name, system_fingerprint: `fp_${service.model.id.slice(0, 12)}` };
      if (request.stream === true) {
        return eventStream(async (send) => {
          try {
            await stream(request, prompt, begun, service, (fields) => send({ ...head, object: "chat.completion.chunk", ...fields }));
            send("[DONE]");
          } catch (error) {
            const explained = apiErrorOf(ending.explain(error));
            c.var.log.warn({ err: error, status: explained.status }, "answer broke off");
            send(explained.body);
          } finally {
            finish();
          }
        });
      }
      const completion = await whole(request, prompt, begun, service);
      finish();
      return c.json({ ...head, object: "chat.completion", ...completion });
    } catch (error) {
      finish();
      throw ending.explain(error);
    }
  });
}

function optionsOf(request: ChatRequest, { maxNewTokens }: Prompt, { store }: Service, signal: AbortSignal): GenerateOptions {
  return {
    store,
    signal,
    maxNewTokens,
    stop: stopsOf(request),
    ...(request.temperature != null && { temperature: request.temperature }),
    ...(request.top_p != null && { topP: request.top_p }),
    ...(request.seed != null && { seed: request.seed }),
    ...(request.logprobs === true && { logprobs: request.top_logprobs ?? 0 }),
  };
}

async function begin(generation: Generation): Promise<Begun> {
  const rest = generation[Symbol.asyncIterator]();
  return { first: await rest.next(), rest, generation };
}

async function* tokensOf({ first, rest }: Begun): AsyncGenerator<GeneratedToken> {
  for (let next = first; !next.done; next = await rest.next()) yield next.value;
}

async function whole(request: ChatRequest, prompt: Prompt, begun: Begun, { model: { tokenizer } }: Service) {
  let content = "";
  const logprobs: object[] = [];
  for await (const token of tokensOf(begun)) {
    content += token.text;
    if (token.logprob !== undefined) logprobs.push(logprobOf(token, tokenizer));
  }
  const stats = await begun.generation.stats;
  const message = { role: "assistant", content, refusal: null, ...annotationsOf(prompt) };
  return {
    choices: [{ index: 0, message, logprobs: request.logprobs === true ? { content: logprobs, refusal: null } : null, finish_reason: finishReason(stats) }],
    usage: usageOf(stats),
    kvsplice: timingOf(prompt, stats),
  };
}

async function stream(request: ChatRequest, prompt: Prompt, begun: Begun, { model: { tokenizer } }: Service, send: (fields: object) => void): Promise<void> {
  const withUsage = request.stream_options?.include_usage === true;
  const chunk = (delta: object, fields: { logprobs?: object | null; finish_reason?: string | null } = {}, more: object = {}) =>
    send({ choices: [{ index: 0, delta, logprobs: null, finish_reason: null, ...fields }], ...(withUsage && { usage: null }), ...more });
  chunk({ role: "assistant", content: "", refusal: null, ...annotationsOf(prompt) });
  for await (const token of tokensOf(begun)) {
    const logprobs = token.logprob === undefined ? null : { content: [logprobOf(token, tokenizer)], refusal: null };
    if (token.text !== "" || logprobs) chunk({ content: token.text }, { logprobs });
  }
  const stats = await begun.generation.stats;
  chunk({}, { finish_reason: finishReason(stats) }, { kvsplice: timingOf(prompt, stats) });
  if (withUsage) send({ choices: [], usage: usageOf(stats) });
}

function logprobOf({ id, logprob, top = [] }: GeneratedToken, tokenizer: Tokenizer) {
  return { ...likelihood(tokenizer.decode([id]), logprob!), top_logprobs: top.map((each) => likelihood(each.text, each.logprob)) };
}

/** A token that is a part of a character has no text of its own, and OpenAI has null for the bytes of such. */
function likelihood(token: string, logprob: number) {
  return { token, logprob, bytes: token.includes("\uFFFD") ? null : [...Buffer.from(token)] };
}

function finishReason({ finish }: GenerationStats): "stop" | "length" {
  return finish === "length" ? "length" : "stop";
}

/** Tokens of blocks that were encoded on the way were not cached. */
function usageOf({ cached_tokens, computed_tokens, encoded_tokens, generated_tokens }: GenerationStats) {
  const prompt_tokens = cached_tokens + computed_tokens;
  return {
    prompt_tokens,
    completion_tokens: generated_tokens,
    total_tokens: prompt_tokens + generated_tokens,
    prompt_tokens_details: { cached_tokens: Math.max(0, cached_tokens - encoded_tokens) },
  };
}

function timingOf({ retrieve_ms }: Prompt, { queue_ms, fetch_ms, splice_ms, first_token_ms, per_token_ms, total_ms, encoded_tokens, computed_tokens }: GenerationStats) {
  return { retrieve_ms, queue_ms, fetch_ms, splice_ms, first_token_ms, per_token_ms, total_ms, encoded_tokens, computed_tokens };
}

function annotationsOf({ citations }: Prompt) {
  return citations.length === 0 ? {} : { annotations: citations.map((document) => ({ type: "document", document })) };
}
