import { randomUUID } from "node:crypto";
import type { ToolCall } from "../chat/index.js";
import type { GeneratedToken, GenerationStats, Tokenizer } from "../engine/index.js";
import type { StartedAnswer } from "./answer.js";
import type { ApiError } from "./error.js";
import type { Send } from "./event-stream.js";
import { logprobOf, ShownTokens } from "./logprobs.js";
import { promptTokens } from "./metrics.js";
import type { PreparedRequest } from "./prepare.js";
import type { ResponsesRequest } from "./requests/responses.js";
import type { Writer } from "./respond.js";
import { annotationsOf, type Source, type SourceList } from "./sources.js";
import { costOf } from "./usage.js";

export type ResponseParts = {
  readonly request: ResponsesRequest;
  readonly prompt: PreparedRequest;
  readonly sources: readonly Source[];
  readonly list?: SourceList;
  readonly answer: StartedAnswer;
  readonly warnings: readonly string[];
  readonly model: { readonly name: string; readonly tokenizer: Tokenizer };
  /** Called with the complete response. */
  readonly keep: (body: { readonly id: string }, output: readonly OutputItem[]) => Promise<void>;
};

type MessagePart = {
  readonly type: "output_text";
  readonly text: string;
  readonly annotations: readonly object[];
  readonly logprobs: readonly object[];
};
type Status = "in_progress" | "completed" | "incomplete";
type MessageItem = {
  readonly id: string;
  readonly type: "message";
  readonly status: Status;
  readonly role: "assistant";
  readonly content: readonly [MessagePart];
};
type CallItem = {
  readonly id: string;
  readonly type: "function_call";
  readonly status: Status;
  readonly call_id: string;
  readonly name: string;
  readonly arguments: string;
};

/** A part of an answer: its text, if there is any, or a tool call. */
export type OutputItem = MessageItem | CallItem;

/** A part of an answer's text as it arrives, with its tool calls and tokens. */
type Heard = { readonly text: string; readonly calls: readonly ToolCall[]; readonly tokens: readonly GeneratedToken[] };

/** An answer in the format of OpenAI's Responses API, as one object or as events. */
export class ResponseWriter implements Writer {
  readonly named = true;
  private readonly id = `resp_${hex()}`;
  private readonly item = `msg_${hex()}`;
  private readonly created_at = Math.floor(Date.now() / 1000);
  private sequence = 0;

  constructor(private readonly parts: ResponseParts) {}

  async whole(): Promise<object> {
    let text = "";
    const tokens: GeneratedToken[] = [];
    const calls: CallItem[] = [];
    for await (const heard of this.heard()) {
      text += heard.text;
      tokens.push(...heard.tokens);
      calls.push(...heard.calls.map(callItem));
    }
    const stats = await this.parts.answer.stats;
    return this.end(calls.length > 0 && text === "" ? calls : [this.message(text, tokens, stats), ...calls], stats);
  }

  async stream(send: Send): Promise<void> {
    const event = (type: string, fields: object) => send({ type, sequence_number: this.sequence++, ...fields });
    const begun = this.body("in_progress", []);
    event("response.created", { response: begun });
    event("response.in_progress", { response: begun });
    let text = "";
    const tokens: GeneratedToken[] = [];
    const calls: CallItem[] = [];
    const place = { item_id: this.item, output_index: 0, content_index: 0 };
    let speaks = false;
    /** Starts the message item at its first word: an answer may consist of calls only, or begin with them. */
    const speak = () => {
      if (speaks) return;
      speaks = true;
      place.output_index = calls.length;
      event("response.output_item.added", {
        output_index: place.output_index,
        item: { id: this.item, type: "message", status: "in_progress", role: "assistant", content: [] },
      });
      event("response.content_part.added", { ...place, part: { type: "output_text", text: "", annotations: [], logprobs: [] } });
    };
    if (!this.parts.prompt.tools) speak();
    for await (const heard of this.heard()) {
      text += heard.text;
      tokens.push(...heard.tokens);
      if (heard.text !== "") {
        speak();
        event("response.output_text.delta", { ...place, delta: heard.text, logprobs: this.logprobs(heard.tokens) });
      }
      for (const call of heard.calls) {
        const item = callItem(call);
        const output_index = Number(speaks) + calls.length;
        calls.push(item);
        event("response.output_item.added", { output_index, item: { ...item, status: "in_progress", arguments: "" } });
        event("response.function_call_arguments.delta", { item_id: item.id, output_index, delta: item.arguments });
        event("response.function_call_arguments.done", { item_id: item.id, output_index, name: item.name, arguments: item.arguments });
        event("response.output_item.done", { output_index, item });
      }
    }
    const stats = await this.parts.answer.stats;
    if (calls.length === 0) speak();
    const message = speaks ? this.message(text, tokens, stats) : undefined;
    if (message) {
      const [part] = message.content;
      part.annotations.forEach((annotation, annotation_index) =>
        event("response.output_text.annotation.added", { ...place, annotation_index, annotation }),
      );
      event("response.output_text.done", { ...place, text, logprobs: part.logprobs });
      event("response.content_part.done", { ...place, part });
      event("response.output_item.done", { output_index: place.output_index, item: message });
    }
    const output: readonly OutputItem[] = message
      ? [...calls.slice(0, place.output_index), message, ...calls.slice(place.output_index)]
      : calls;
    const response = await this.end(output, stats);
    event(stats.finish === "length" ? "response.incomplete" : "response.completed", { response });
  }

  failed({ message, code, param }: ApiError): object {
    return { type: "error", sequence_number: this.sequence++, code, message, param };
  }

  private async *heard(): AsyncGenerator<Heard> {
    const { answer, list, prompt } = this.parts;
    const shown = new ShownTokens();
    const reader = prompt.tools?.reader();
    for await (const token of answer) {
      const tokens = shown.push(token);
      if (token.text === "") continue;
      const { said, calls } = reader?.push(token.text) ?? { said: token.text, calls: [] };
      yield { text: said, calls, tokens };
    }
    const { said, calls } = reader?.finish() ?? { said: "", calls: [] };
    if (said !== "" || calls.length > 0) yield { text: said, calls, tokens: [] };
    if (list) yield { text: list.text, calls: [], tokens: [] };
  }

  private async end(output: readonly OutputItem[], stats: GenerationStats): Promise<object> {
    const { prompt, sources, answer, warnings, keep } = this.parts;
    const input_tokens = promptTokens(stats);
    const output_tokens = stats.generated_tokens;
    const body = {
      ...this.body(stats.finish === "length" ? "incomplete" : "completed", output),
      usage: {
        input_tokens,
        input_tokens_details: { cached_tokens: stats.cached_tokens },
        output_tokens,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: input_tokens + output_tokens,
      },
      kvsplice: { ...costOf(prompt, stats, answer.order), ...(sources.length > 0 && { sources }) },
      ...(warnings.length > 0 && { warnings }),
    };
    await keep(body, output);
    return body;
  }

  private body(status: "in_progress" | "completed" | "incomplete", output: readonly object[]) {
    const { request, model } = this.parts;
    return {
      id: this.id,
      object: "response",
      created_at: this.created_at,
      status,
      background: false,
      error: null,
      incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
      instructions: request.instructions ?? null,
      max_output_tokens: request.max_output_tokens ?? null,
      metadata: request.metadata ?? {},
      model: model.name,
      output,
      parallel_tool_calls: request.parallel_tool_calls ?? true,
      previous_response_id: request.previous_response_id ?? null,
      reasoning: { effort: null, summary: null },
      store: request.store !== false,
      temperature: request.temperature ?? null,
      text: { format: { type: "text" } },
      tool_choice:
        typeof request.tool_choice === "object" && request.tool_choice
          ? { type: "function", name: request.tool_choice.function.name }
          : (request.tool_choice ?? "auto"),
      tools: (request.tools ?? []).map(({ type, function: described }) => ({ type, ...described })),
      top_logprobs: request.top_logprobs ?? 0,
      top_p: request.top_p ?? null,
      truncation: request.truncation ?? "disabled",
      usage: null as object | null,
      user: request.user ?? null,
    };
  }

  private message(text: string, tokens: readonly GeneratedToken[], { finish }: GenerationStats): MessageItem {
    return {
      id: this.item,
      type: "message",
      status: finish === "length" ? "incomplete" : "completed",
      role: "assistant",
      content: [this.part(text, tokens)],
    };
  }

  private part(text: string, tokens: readonly GeneratedToken[]): MessagePart {
    const { sources, list } = this.parts;
    const annotations = annotationsOf(sources, text.length, list).map(({ type, url_citation }) => ({ type, ...url_citation }));
    return { type: "output_text", text, annotations, logprobs: this.logprobs(tokens) };
  }

  private logprobs(tokens: readonly GeneratedToken[]) {
    return tokens.flatMap((token) => (token.logprob === undefined ? [] : [logprobOf(token, this.parts.model.tokenizer)]));
  }
}

function callItem({ name, arguments: given }: ToolCall): CallItem {
  return { id: `fc_${hex()}`, type: "function_call", status: "completed", call_id: `call_${hex().slice(0, 24)}`, name, arguments: given };
}

function hex(): string {
  return randomUUID().replaceAll("-", "");
}
