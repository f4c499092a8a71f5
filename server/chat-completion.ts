import { randomUUID } from "node:crypto";
import type { ToolCall } from "../chat/index.js";
import type { GeneratedToken, GenerationStats, Tokenizer } from "../engine/index.js";
import type { StartedAnswer } from "./answer.js";
import type { Send } from "./event-stream.js";
import { logprobOf, ShownTokens } from "./logprobs.js";
import type { PreparedRequest } from "./prepare.js";
import type { ChatRequest } from "./requests/chat.js";
import type { Writer } from "./respond.js";
import { annotationsOf, type Source, type SourceList } from "./sources.js";
import { costOf, finishReason, usageOf } from "./usage.js";

export type ChatParts = {
  readonly request: ChatRequest;
  readonly prompt: PreparedRequest;
  /** The documents of the prompt, best first. */
  readonly sources: readonly Source[];
  /** The list of sources at the answer's end, if requested. */
  readonly list?: SourceList;
  /** As many answers as requested. */
  readonly answers: readonly StartedAnswer[];
  /** Warnings about ignored parts of the request. */
  readonly warnings: readonly string[];
  readonly model: { readonly id: string; readonly name: string; readonly tokenizer: Tokenizer };
};

/** A part of an answer's text as it arrives, with its tool calls and tokens. */
type Piece = { readonly text: string; readonly calls: readonly ToolCall[]; readonly tokens: readonly GeneratedToken[] };

/** A chat's answers in OpenAI's format, as one object or as chunks. */
export class ChatCompletion implements Writer {
  private readonly head: { readonly id: string; readonly created: number; readonly model: string; readonly system_fingerprint: string };

  constructor(private readonly parts: ChatParts) {
    const { model } = parts;
    const created = Math.floor(Date.now() / 1000);
    this.head = { id: `chatcmpl-${randomUUID()}`, created, model: model.name, system_fingerprint: `fp_${model.id.slice(0, 12)}` };
  }

  async whole(): Promise<object> {
    const { request, answers } = this.parts;
    const finished = await Promise.all(
      answers.map(async (answer, index) => {
        let content = "";
        const tokens: GeneratedToken[] = [];
        const calls: object[] = [];
        for await (const piece of this.piecesOf(answer)) {
          content += piece.text;
          tokens.push(...piece.tokens);
          calls.push(...piece.calls.map(toolCall));
        }
        const stats = await answer.stats;
        const called = calls.length > 0;
        const message = {
          role: "assistant",
          content: called && content === "" ? null : content,
          refusal: null,
          ...(called && { tool_calls: calls }),
          ...this.annotations(content),
        };
        const logprobs = request.logprobs === true ? { content: tokens.map((token) => this.logprob(token)), refusal: null } : null;
        return { stats, choice: { index, message, logprobs, finish_reason: finishReason(stats, called) } };
      }),
    );
    const stats = finished.map((each) => each.stats);
    return {
      ...this.head,
      object: "chat.completion",
      choices: finished.map(({ choice }) => choice),
      usage: usageOf(stats),
      ...this.ending(stats[0]!, answers[0]!, this.own),
    };
  }

  async stream(send: Send): Promise<void> {
    const { request, answers } = this.parts;
    const withUsage = request.stream_options?.include_usage === true;
    const chunk = (choices: readonly object[], more: object = {}) =>
      send({ ...this.head, object: "chat.completion.chunk", choices, ...(withUsage && { usage: null }), ...more });
    const stats = await Promise.all(
      answers.map(async (answer, index) => {
        const choice = { index, logprobs: null, finish_reason: null };
        chunk(
          [{ ...choice, delta: { role: "assistant", content: "", refusal: null } }],
          index === 0 && this.own ? { kvsplice: this.own } : {},
        );
        let content = "";
        let called = 0;
        for await (const { text, calls, tokens } of this.piecesOf(answer)) {
          content += text;
          const logprobs = request.logprobs === true ? { content: tokens.map((token) => this.logprob(token)), refusal: null } : null;
          if (text !== "" || logprobs) chunk([{ ...choice, delta: { content: text }, logprobs }]);
          for (const call of calls) chunk([{ ...choice, delta: { tool_calls: [{ index: called++, ...toolCall(call) }] } }]);
        }
        const stats = await answer.stats;
        chunk(
          [{ ...choice, delta: this.annotations(content), finish_reason: finishReason(stats, called > 0) }],
          index === 0 ? this.ending(stats, answer) : {},
        );
        return stats;
      }),
    );
    if (withUsage) chunk([], { usage: usageOf(stats) });
    send("[DONE]");
  }

  /** The text with its tokens, followed by the list of sources if requested. */
  private async *piecesOf(answer: StartedAnswer): AsyncGenerator<Piece> {
    const { list, prompt } = this.parts;
    const shown = new ShownTokens();
    const reader = prompt.tools?.reader();
    for await (const token of answer) {
      const tokens = shown.push(token);
      if (token.text === "") continue;
      const { said, calls } = reader?.push(token.text) ?? { said: token.text, calls: [] };
      yield { text: said, calls, tokens };
    }
    const tokens = shown.end((await answer.stats).finish);
    const { said, calls } = reader?.finish() ?? { said: "", calls: [] };
    if (tokens.length > 0 || said !== "" || calls.length > 0) yield { text: said, calls, tokens };
    if (list) yield { text: list.text, calls: [], tokens: [] };
  }

  private annotations(content: string): { readonly annotations?: readonly object[] } {
    const { sources, list } = this.parts;
    return sources.length === 0 ? {} : { annotations: annotationsOf(sources, content.length, list) };
  }

  private get own(): { readonly sources: readonly Source[] } | undefined {
    const { sources } = this.parts;
    return sources.length === 0 ? undefined : { sources };
  }

  /** The fields that kvsplice adds to OpenAI's. */
  private ending(stats: GenerationStats, { order }: StartedAnswer, own: object = {}) {
    const { prompt, warnings } = this.parts;
    return { kvsplice: { ...costOf(prompt, stats, order), ...own }, ...(warnings.length > 0 && { warnings }) };
  }

  private logprob(token: GeneratedToken) {
    return logprobOf(token, this.parts.model.tokenizer);
  }
}

function toolCall({ name, arguments: given }: ToolCall) {
  return { id: `call_${randomUUID().replaceAll("-", "").slice(0, 24)}`, type: "function", function: { name, arguments: given } };
}
