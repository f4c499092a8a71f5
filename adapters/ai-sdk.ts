import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3Content,
  LanguageModelV3FinishReason,
  LanguageModelV3GenerateResult,
  LanguageModelV3Message,
  LanguageModelV3StreamPart,
  LanguageModelV3StreamResult,
  LanguageModelV3ToolResultPart,
  LanguageModelV3Usage,
  SharedV3Warning,
} from "@ai-sdk/provider";
import type { Said, Tool } from "../chat/index.js";
import { type GenerationStats, KvspliceError } from "../engine/index.js";
import { type Asked, callId, LocalChat, type LocalChatOptions } from "./local-chat.js";

/**
 * A kvsplice model in this process, as a language model for the AI SDK.
 *
 *     const model = kvsplice({ model: await loadModel() });
 *     const { text } = await generateText({ model, prompt: "Say hello." });
 */
export function kvsplice(options: LocalChatOptions): LanguageModelV3 {
  const chat = new LocalChat(options);
  return {
    specificationVersion: "v3",
    provider: "kvsplice",
    modelId: options.model.name,
    supportedUrls: {},
    doGenerate: (call) => generated(chat, call),
    doStream: (call) => streamed(chat, call),
  };
}

async function generated(chat: LocalChat, call: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
  const answer = chat.answer(askedOf(call));
  let text = "";
  const calls: LanguageModelV3Content[] = [];
  for (;;) {
    const next = await answer.next();
    if (next.done) {
      const content: LanguageModelV3Content[] = [...(text === "" ? [] : [{ type: "text" as const, text }]), ...calls];
      return { content, finishReason: finishReason(next.value, calls.length > 0), usage: usageOf(next.value), warnings: warningsOf(call) };
    }
    text += next.value.said;
    calls.push(
      ...next.value.calls.map((each) => ({ type: "tool-call" as const, toolCallId: callId(), toolName: each.name, input: each.arguments })),
    );
  }
}

async function streamed(chat: LocalChat, call: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
  const answer = chat.answer(askedOf(call));
  const first = await answer.next(); // errors in the call are thrown here
  async function* parts(): AsyncGenerator<LanguageModelV3StreamPart> {
    yield { type: "stream-start", warnings: warningsOf(call) };
    let [began, called] = [false, false];
    for (let next = first; ; next = await answer.next()) {
      if (next.done) {
        if (began) yield { type: "text-end", id: TEXT };
        yield { type: "finish", finishReason: finishReason(next.value, called), usage: usageOf(next.value) };
        return;
      }
      const { said, calls } = next.value;
      if (said !== "" && !began) yield { type: "text-start", id: TEXT };
      if (said !== "") yield { type: "text-delta", id: TEXT, delta: said };
      began ||= said !== "";
      called ||= calls.length > 0;
      for (const { name, arguments: input } of calls) {
        const id = callId();
        yield { type: "tool-input-start", id, toolName: name };
        yield { type: "tool-input-delta", id, delta: input };
        yield { type: "tool-input-end", id };
        yield { type: "tool-call", toolCallId: id, toolName: name, input };
      }
    }
  }
  return { stream: ReadableStream.from(parts()) as never };
}

/** An answer has one text. */
const TEXT = "text";

function askedOf(call: LanguageModelV3CallOptions): Asked {
  const { prompt, tools, toolChoice, responseFormat, maxOutputTokens, temperature, topP, topK, seed, stopSequences, abortSignal } = call;
  const sampling = {
    ...(temperature !== undefined && { temperature }),
    ...(topP !== undefined && { topP }),
    ...(topK !== undefined && { topK }),
    ...(seed !== undefined && { seed }),
  };
  return {
    messages: prompt.flatMap(saidBy),
    tools: tools?.flatMap((tool): Tool[] =>
      tool.type === "function"
        ? [{ name: tool.name, description: tool.description, parameters: tool.inputSchema as Tool["parameters"] }]
        : [],
    ),
    choice: toolChoice?.type === "tool" ? { name: toolChoice.toolName } : toolChoice?.type,
    schema: responseFormat?.type === "json" ? ((responseFormat.schema ?? { type: "object" }) as Asked["schema"]) : undefined,
    maxTokens: maxOutputTokens,
    sampling,
    stop: stopSequences,
    signal: abortSignal,
  };
}

function saidBy(message: LanguageModelV3Message): Said[] {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.content }];
    case "user":
      return [{ role: "user", content: message.content.map((part) => (part.type === "text" ? part.text : refuse(part.type))).join("") }];
    case "assistant": {
      const content = message.content.map((part) => (part.type === "text" ? part.text : "")).join("");
      const calls = message.content.flatMap((part) =>
        part.type === "tool-call"
          ? [
              {
                id: part.toolCallId,
                name: part.toolName,
                arguments: typeof part.input === "string" ? part.input : JSON.stringify(part.input),
              },
            ]
          : [],
      );
      return [{ role: "assistant", content, calls }];
    }
    case "tool":
      return message.content.flatMap((part): Said[] =>
        part.type === "tool-result" ? [{ role: "tool", content: resultOf(part), id: part.toolCallId }] : [],
      );
  }
}

function resultOf({ output }: LanguageModelV3ToolResultPart): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "json":
    case "error-json":
      return JSON.stringify(output.value);
    case "execution-denied":
      return output.reason ?? "The call was not allowed.";
    case "content":
      return output.value.map((part) => (part.type === "text" ? part.text : refuse(part.type))).join("");
  }
}

function refuse(type: string): never {
  throw new KvspliceError("bad_argument", `The model cannot read a part of type ${type}, only text.`);
}

function warningsOf({ presencePenalty, frequencyPenalty, tools }: LanguageModelV3CallOptions): SharedV3Warning[] {
  const penalties = [presencePenalty !== undefined && "presencePenalty", frequencyPenalty !== undefined && "frequencyPenalty"].filter(
    (name) => name !== false,
  );
  const providers = (tools ?? []).filter(({ type }) => type !== "function").map(({ name }) => `tool ${name}`);
  return [...penalties, ...providers].map((feature) => ({ type: "unsupported", feature }));
}

function usageOf({ cached_tokens, encoded_tokens, computed_tokens, generated_tokens }: GenerationStats): LanguageModelV3Usage {
  return {
    inputTokens: {
      total: cached_tokens + encoded_tokens + computed_tokens,
      noCache: encoded_tokens + computed_tokens,
      cacheRead: cached_tokens,
      cacheWrite: encoded_tokens,
    },
    outputTokens: { total: generated_tokens, text: generated_tokens, reasoning: 0 },
  };
}

function finishReason({ finish }: GenerationStats, called: boolean): LanguageModelV3FinishReason {
  return { unified: finish === "length" ? "length" : called ? "tool-calls" : "stop", raw: finish };
}
