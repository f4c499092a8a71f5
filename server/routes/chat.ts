import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import type { GeneratedToken, GenerateOptions, GenerationStats, Tokenizer } from "../../engine/index.js";
import { answer, type Answer } from "../answer.js";
import { readJson } from "../body.js";
import { chatRequest, type ChatRequest } from "../chat-request.js";
import { apiErrorOf, CLIENT_GONE } from "../error.js";
import type { Environment } from "../environment.js";
import { eventStream } from "../event-stream.js";
import { cachedTokens, promptTokens } from "../metrics.js";
import { promptOf, type Prompt } from "../prompt.js";
import { requestSignal } from "../request-signal.js";
import type { Service } from "../service.js";
import { corpusModel, mustBeModel, withoutTag } from "./models.js";

/** `POST /v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat) */
export function chatRoutes(service: Service): Hono<Environment> {
  const { model, limits, waiting } = service;
  return new Hono<Environment>().post("/v1/chat/completions", async (c) => {
    const arrived = performance.now();
    const request = overCorpus(await readJson(c, chatRequest), service);
    mustBeModel(request.model, model.name);
    const leave = waiting.enter();
    const ending = requestSignal(c.req.raw.signal, limits.request_ms);
    const finish = () => {
      leave();
      ending.dispose();
    };
    try {
      const prompt = await promptOf(request, service, ending.signal);
      const answered = await answer(prompt, service, { ...samplingOf(request), signal: ending.signal, arrived, log: c.var.log });
      leave();
      const writer = new CompletionWriter(request, prompt, answered, model);
      if (request.stream !== true) {
        const completion = await writer.whole();
        finish();
        return c.json(completion);
      }
      return eventStream(async (send) => {
        try {
          await writer.stream(send);
          send("[DONE]");
        } catch (error) {
          const explained = apiErrorOf(ending.explain(error));
          if (explained.status === CLIENT_GONE) service.metrics.hangUp();
          else c.var.log.error({ err: error, status: explained.status }, "an answer broke off");
          send(explained.body);
        } finally {
          finish();
        }
      });
    } catch (error) {
      finish();
      throw ending.explain(error);
    }
  });
}

/** Prompts by which clients make titles, tags and the like of a conversation (Open WebUI's begin so): no questions to a corpus. */
const SIDE_TASK = /^### Task:\n/;

/** A request to the model id of a corpus is one to the model over that corpus. */
function overCorpus(request: ChatRequest, { model, corpusName }: Service): ChatRequest {
  if (request.model === undefined || withoutTag(request.model) !== corpusModel(model.name, corpusName)) return request;
  const named = { ...request, model: model.name };
  const asksDocuments = request.documents == null && request.schema == null && !SIDE_TASK.test(request.messages.at(-1)?.content ?? "");
  return asksDocuments ? { ...named, corpus: corpusName } : named;
}

function samplingOf(request: ChatRequest): GenerateOptions {
  return {
    ...(request.temperature != null && { temperature: request.temperature }),
    ...(request.top_p != null && { topP: request.top_p }),
    ...(request.seed != null && { seed: request.seed }),
    ...(request.logprobs === true && { logprobs: request.top_logprobs ?? 0 }),
  };
}

/** One answer in OpenAI's words, as one object or as chunks. */
class CompletionWriter {
  private readonly head: { readonly id: string; readonly created: number; readonly model: string; readonly system_fingerprint: string };

  constructor(
    private readonly request: ChatRequest,
    private readonly prompt: Prompt,
    private readonly answer: Answer,
    private readonly model: { readonly id: string; readonly name: string; readonly tokenizer: Tokenizer },
  ) {
    const created = Math.floor(Date.now() / 1000);
    this.head = { id: `chatcmpl-${randomUUID()}`, created, model: model.name, system_fingerprint: `fp_${model.id.slice(0, 12)}` };
  }

  async whole(): Promise<object> {
    let content = "";
    const logprobs: object[] = [];
    for await (const token of this.answer) {
      content += token.text;
      if (token.logprob !== undefined) logprobs.push(this.logprobOf(token));
    }
    const stats = await this.answer.stats;
    const message = { role: "assistant", content, refusal: null, ...annotationsOf(this.prompt) };
    const choice = { index: 0, message, logprobs: this.request.logprobs === true ? { content: logprobs, refusal: null } : null, finish_reason: finishReason(stats) };
    return { ...this.head, object: "chat.completion", choices: [choice], usage: usageOf(stats), kvsplice: costOf(this.prompt, stats) };
  }

  async stream(send: (data: object) => void): Promise<void> {
    const withUsage = this.request.stream_options?.include_usage === true;
    const chunk = (choices: readonly object[], more: object = {}) =>
      send({ ...this.head, object: "chat.completion.chunk", choices, ...(withUsage && { usage: null }), ...more });
    const choice = { index: 0, logprobs: null, finish_reason: null };
    chunk([{ ...choice, delta: { role: "assistant", content: "", refusal: null, ...annotationsOf(this.prompt) } }]);
    for await (const token of this.answer) {
      const logprobs = token.logprob === undefined ? null : { content: [this.logprobOf(token)], refusal: null };
      if (token.text !== "" || logprobs) chunk([{ ...choice, delta: { content: token.text }, logprobs }]);
    }
    const stats = await this.answer.stats;
    chunk([{ ...choice, delta: {}, finish_reason: finishReason(stats) }], { kvsplice: costOf(this.prompt, stats) });
    if (withUsage) chunk([], { usage: usageOf(stats) });
  }

  private logprobOf({ id, logprob, top = [] }: GeneratedToken) {
    return { ...likelihood(this.model.tokenizer.decode([id]), logprob!), top_logprobs: top.map((each) => likelihood(each.text, each.logprob)) };
  }
}

/** A token that is a part of a character has no text of its own, and OpenAI has null for the bytes of such. */
function likelihood(token: string, logprob: number) {
  return { token, logprob, bytes: token.includes("\uFFFD") ? null : [...Buffer.from(token)] };
}

function finishReason({ finish }: GenerationStats): "stop" | "length" {
  return finish === "length" ? "length" : "stop";
}

function usageOf(stats: GenerationStats) {
  const [prompt_tokens, completion_tokens] = [promptTokens(stats), stats.generated_tokens];
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens, prompt_tokens_details: { cached_tokens: cachedTokens(stats) } };
}

/** What the answer cost, beside OpenAI's fields. */
function costOf({ retrieve_ms, turn }: Prompt, stats: GenerationStats) {
  const { queue_ms, fetch_ms, splice_ms, look_ms, recomputed_tokens, first_token_ms, per_token_ms, total_ms, encoded_tokens, computed_tokens } = stats;
  const times = { retrieve_ms, queue_ms, fetch_ms, splice_ms, look_ms, first_token_ms, per_token_ms, total_ms };
  return { ...times, cached_tokens: cachedTokens(stats), encoded_tokens, computed_tokens, recomputed_tokens, dropped_exchanges: turn?.dropped ?? 0 };
}

function annotationsOf({ citations }: Prompt) {
  return citations.length === 0 ? {} : { annotations: citations.map((document) => ({ type: "document", document })) };
}
