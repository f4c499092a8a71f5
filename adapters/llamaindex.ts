import {
  type BaseTool,
  type ChatMessage,
  type ChatResponse,
  type ChatResponseChunk,
  type LLMChatParamsNonStreaming,
  type LLMChatParamsStreaming,
  type LLMMetadata,
  type MessageContent,
  ToolCallLLM,
  type ToolCallLLMMessageOptions,
} from "@llamaindex/core/llms";
import type { QueryBundle } from "@llamaindex/core/query-engine";
import { BaseRetriever } from "@llamaindex/core/retriever";
import { type NodeWithScore, TextNode } from "@llamaindex/core/schema";
import type { Said, Tool } from "../chat/index.js";
import { KvspliceError } from "../engine/index.js";
import type { Schema } from "../grammar/index.js";
import type { Corpus } from "../rag/index.js";
import { type Asked, callId, LocalChat, type LocalChatOptions } from "./local-chat.js";

type Params = LLMChatParamsStreaming<object, ToolCallLLMMessageOptions> | LLMChatParamsNonStreaming<object, ToolCallLLMMessageOptions>;

/**
 * A kvsplice model in this process, as an LLM for LlamaIndex.TS.
 *
 *     Settings.llm = new KvspliceLLM({ model: await loadModel() });
 */
export class KvspliceLLM extends ToolCallLLM {
  readonly supportToolCall = true;
  private readonly local: LocalChat;

  constructor(options: LocalChatOptions) {
    super();
    this.local = new LocalChat(options);
  }

  /** The model's name, context length in tokens, and default sampling, as LlamaIndex asks for them. */
  get metadata(): LLMMetadata {
    const { model, maxTokens, sampling } = this.local.options;
    const { temperature = 0, topP = 1 } = { ...model.sampling, ...sampling };
    return {
      model: model.name,
      temperature,
      topP,
      maxTokens,
      contextWindow: model.contextLength,
      tokenizer: undefined,
      structuredOutput: true,
    };
  }

  /** Answers messages; with `stream`, in pieces as they are generated. Tools and a `responseFormat` constrain the answer. */
  override chat(
    params: LLMChatParamsStreaming<object, ToolCallLLMMessageOptions>,
  ): Promise<AsyncIterable<ChatResponseChunk<ToolCallLLMMessageOptions>>>;
  /** Answers messages in one piece. */
  override chat(params: LLMChatParamsNonStreaming<object, ToolCallLLMMessageOptions>): Promise<ChatResponse<ToolCallLLMMessageOptions>>;
  override async chat(
    params: Params,
  ): Promise<AsyncIterable<ChatResponseChunk<ToolCallLLMMessageOptions>> | ChatResponse<ToolCallLLMMessageOptions>> {
    const chunks = this.chunks(askedOf(params));
    if (params.stream) return chunks;
    let content = "";
    const toolCall: object[] = [];
    for await (const { delta, options } of chunks) {
      content += delta;
      if (options && "toolCall" in options) toolCall.push(...options.toolCall);
    }
    const message = {
      role: "assistant",
      content,
      ...(toolCall.length > 0 && { options: { toolCall } }),
    } as ChatMessage<ToolCallLLMMessageOptions>;
    return { message, raw: null };
  }

  private async *chunks(asked: Asked): AsyncGenerator<ChatResponseChunk<ToolCallLLMMessageOptions>> {
    for await (const { said, calls } of this.local.answer(asked)) {
      const toolCall = calls.map(({ name, arguments: input }) => ({ id: callId(), name, input: JSON.parse(input) as never }));
      yield { raw: null, delta: said, ...(toolCall.length > 0 && { options: { toolCall } }) };
    }
  }
}

/** Retrieves chunks of a corpus, as a LlamaIndex.TS retriever. */
export class CorpusRetriever extends BaseRetriever {
  /** @param fields `topK`: 10 by default */
  constructor(private readonly fields: { readonly corpus: Corpus; readonly topK?: number }) {
    super();
  }

  /** The chunks of the corpus that fit a query best, best first, as nodes with scores. LlamaIndex calls this from `retrieve`. */
  override async _retrieve({ query }: QueryBundle): Promise<NodeWithScore[]> {
    const { corpus, topK } = this.fields;
    const sources = await corpus.retrieve(textOf(query), { topK });
    return sources.map(({ ref, title, page, score, text }) => ({
      score,
      node: new TextNode({ id_: ref, text, metadata: { source: ref, title, ...(page !== undefined && { page }) } }),
    }));
  }
}

function askedOf({ messages, tools, responseFormat }: Params): Asked {
  return { messages: messages.flatMap(saidBy), tools: tools?.map(toolOf), schema: responseFormat as Schema | undefined };
}

function saidBy({ role, content, options }: ChatMessage<ToolCallLLMMessageOptions>): Said[] {
  if (options && "toolResult" in options) return [{ role: "tool", content: options.toolResult.result, id: options.toolResult.id }];
  const text = textOf(content);
  if (role === "assistant") {
    const calls =
      options && "toolCall" in options
        ? options.toolCall.map(({ id, name, input }) => ({
            id,
            name,
            arguments: typeof input === "string" ? input : JSON.stringify(input),
          }))
        : [];
    return [{ role, content: text, calls }];
  }
  return [{ role: role === "user" ? "user" : "system", content: text }];
}

function textOf(content: MessageContent): string {
  if (typeof content === "string") return content;
  return content
    .map((part) => {
      if (part.type !== "text") throw new KvspliceError("bad_argument", `The model cannot read a part of type ${part.type}, only text.`);
      return part.text;
    })
    .join("");
}

function toolOf({ metadata: { name, description, parameters } }: BaseTool): Tool {
  return { name, description, parameters: parameters as unknown as Tool["parameters"] };
}
