import type { CallbackManagerForLLMRun, CallbackManagerForRetrieverRun } from "@langchain/core/callbacks/manager";
import { Document } from "@langchain/core/documents";
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BaseChatModelParams,
  type BindToolsInput,
} from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage, type ToolMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import { BaseRetriever, type BaseRetrieverInput } from "@langchain/core/retrievers";
import { type Runnable, RunnableLambda } from "@langchain/core/runnables";
import { convertToOpenAITool } from "@langchain/core/utils/function_calling";
import { toJsonSchema } from "@langchain/core/utils/json_schema";
import type { Said, Tool, ToolChoice } from "../chat/index.js";
import { type GenerationStats, KvspliceError } from "../engine/index.js";
import type { Schema } from "../grammar/index.js";
import { type AnswerOptions, answer, type Corpus } from "../rag/index.js";
import { type Asked, callId, LocalChat, type LocalChatOptions } from "./local-chat.js";

/** Options of one call. */
export type ChatKvspliceCallOptions = BaseChatModelCallOptions & {
  /** Functions that the model may call; none by default. */
  readonly tools?: BindToolsInput[];
  /** JSON Schema of the answer; any text by default. */
  readonly schema?: Schema;
};

/**
 * A kvsplice model in this process, as a chat model for LangChain.
 *
 *     const chat = new ChatKvsplice({ model: await loadModel() });
 *     const { content } = await chat.invoke("Say hello.");
 */
export class ChatKvsplice extends BaseChatModel<ChatKvspliceCallOptions> {
  private readonly chat: LocalChat;

  constructor(fields: LocalChatOptions & BaseChatModelParams) {
    super(fields);
    this.chat = new LocalChat(fields);
  }

  /** Names this kind of model in LangChain's traces: `kvsplice`. */
  override _llmType(): string {
    return "kvsplice";
  }

  override bindTools(
    tools: BindToolsInput[],
    kwargs: Partial<ChatKvspliceCallOptions> = {},
  ): Runnable<never, AIMessageChunk, ChatKvspliceCallOptions> {
    return this.withConfig({ ...kwargs, tools }) as never;
  }

  /** Enforced by a grammar, so that the answer always parses and validates, unless it is cut off at the maximum length. */
  override withStructuredOutput(schema: never, { includeRaw = false }: { readonly includeRaw?: boolean } = {}): never {
    const parse = RunnableLambda.from((raw: BaseMessage) => (includeRaw ? { raw, parsed: JSON.parse(raw.text) } : JSON.parse(raw.text)));
    return this.withConfig({ schema: toJsonSchema(schema) as Schema }).pipe(parse) as never;
  }

  /** The whole answer to messages, with its tool calls, token counts and timings. LangChain calls this from `invoke`. */
  override async _generate(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): Promise<ChatResult> {
    let whole: AIMessageChunk | undefined;
    for await (const { message } of this._streamResponseChunks(messages, options, runManager))
      whole = whole ? whole.concat(message as AIMessageChunk) : (message as AIMessageChunk);
    const { content, tool_calls = [], usage_metadata, response_metadata } = whole!; // there is always a last piece
    const message = new AIMessage({ content, tool_calls, response_metadata, usage_metadata } as never);
    return { generations: [{ text: message.text, message }] };
  }

  /** The answer in pieces, as they are generated; the last one has counts and timings. LangChain calls this from `stream`. */
  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const answered = this.chat.answer(askedOf(messages, options));
    let called = 0;
    for (;;) {
      const next = await answered.next();
      if (next.done) {
        const response_metadata = { finish_reason: finishReason(next.value, called), model_name: this.chat.options.model.name };
        yield chunkOf(new AIMessageChunk({ content: "", usage_metadata: usageOf(next.value), response_metadata } as never));
        return;
      }
      const { said, calls } = next.value;
      const tool_call_chunks = calls.map((call) => ({
        type: "tool_call_chunk" as const,
        id: callId(),
        index: called++,
        name: call.name,
        args: call.arguments,
      }));
      yield chunkOf(new AIMessageChunk({ content: said, ...(tool_call_chunks.length > 0 && { tool_call_chunks }) }));
      if (said !== "") await runManager?.handleLLMNewToken(said);
    }
  }
}

/** Retrieves chunks of a corpus, as a LangChain retriever. */
export class CorpusRetriever extends BaseRetriever {
  override lc_namespace = ["kvsplice", "retrievers"];

  /** @param fields `topK`: 10 by default */
  constructor(private readonly fields: { readonly corpus: Corpus; readonly topK?: number } & BaseRetrieverInput) {
    super(fields);
  }

  override async _getRelevantDocuments(query: string, _: CallbackManagerForRetrieverRun | undefined): Promise<Document[]> {
    const { corpus, topK } = this.fields;
    const sources = await corpus.retrieve(query, { topK });
    return sources.map(
      ({ ref, title, page, score, text }) =>
        new Document({ id: ref, pageContent: text, metadata: { source: ref, title, score, ...(page !== undefined && { page }) } }),
    );
  }
}

/**
 * Answers `input` over the documents of `context` by splicing their KV. Replaces a chain that stuffs documents into a prompt.
 * A document's title is the `title` of its metadata, or else the `source`.
 */
export function createSplicedDocumentsChain(
  options: Pick<AnswerOptions, "model" | "store" | "link" | "maxNewTokens">,
): Runnable<{ readonly input: string; readonly context: readonly Document[] }, string> {
  return RunnableLambda.from(async function* ({ input, context }: { readonly input: string; readonly context: readonly Document[] }) {
    const documents = context.map(({ pageContent, metadata }) => ({
      title: String(metadata["title"] ?? metadata["source"] ?? ""),
      text: pageContent,
      metadata,
    }));
    for await (const { text } of await answer({ ...options, question: input, documents })) if (text !== "") yield text;
  }) as never;
}

function askedOf(messages: readonly BaseMessage[], { tools, tool_choice, schema, stop, signal }: ChatKvspliceCallOptions): Asked {
  return { messages: messages.map(saidBy), tools: tools?.map(toolOf), choice: choiceOf(tool_choice), schema, stop, signal };
}

function saidBy(message: BaseMessage): Said {
  const content = message.text;
  switch (message.type) {
    case "system":
    case "developer":
      return { role: "system", content };
    case "human":
    case "generic":
      return { role: "user", content };
    case "tool":
      return { role: "tool", content, id: (message as ToolMessage).tool_call_id };
    case "ai":
      return {
        role: "assistant",
        content,
        calls: ((message as AIMessage).tool_calls ?? []).map(({ id, name, args }) => ({ id, name, arguments: JSON.stringify(args) })),
      };
  }
  throw new KvspliceError(
    "bad_argument",
    `The model cannot read a message of type ${message.type}. Use system, human, ai and tool messages.`,
  );
}

function toolOf(tool: BindToolsInput): Tool {
  return convertToOpenAITool(tool as never).function as Tool;
}

function choiceOf(choice: ChatKvspliceCallOptions["tool_choice"]): ToolChoice | "none" | undefined {
  if (choice === undefined || choice === "auto" || choice === "none" || choice === "required")
    return choice as ToolChoice | "none" | undefined;
  if (choice === "any") return "required";
  return { name: typeof choice === "string" ? choice : (choice as { readonly function: { readonly name: string } }).function.name };
}

function chunkOf(message: AIMessageChunk): ChatGenerationChunk {
  return new ChatGenerationChunk({ text: message.text, message });
}

function usageOf({ cached_tokens, encoded_tokens, computed_tokens, generated_tokens }: GenerationStats) {
  const input_tokens = cached_tokens + encoded_tokens + computed_tokens;
  return {
    input_tokens,
    output_tokens: generated_tokens,
    total_tokens: input_tokens + generated_tokens,
    input_token_details: { cache_read: cached_tokens },
  };
}

function finishReason({ finish }: GenerationStats, called: number): string {
  return finish === "length" ? "length" : called > 0 ? "tool_calls" : "stop";
}
