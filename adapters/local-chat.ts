import {
  CallReader,
  callGrammar,
  chatPlan,
  type Read,
  type Said,
  spoken,
  type Tool,
  type ToolChoice,
  toolForm,
  withTools,
} from "../chat/index.js";
import type { BlockStore, GenerateOptions, GenerationStats, Grammar, Model, SamplingOptions } from "../engine/index.js";
import { Grammars, type Schema, schemaOf } from "../grammar/index.js";

/** The options of every adapter. */
export type LocalChatOptions = {
  readonly model: Model;
  /** Stores the KV of system messages and tools. Without it, this KV is computed each time. */
  readonly store?: BlockStore | undefined;
  /** Maximum tokens of an answer; 512 by default. */
  readonly maxTokens?: number | undefined;
  /** How answers are sampled; by default as the model's files specify. */
  readonly sampling?: SamplingOptions | undefined;
};

export type Asked = {
  readonly messages: readonly Said[];
  readonly tools?: readonly Tool[] | undefined;
  /** `none` omits the tools. */
  readonly choice?: ToolChoice | "none" | undefined;
  /** JSON Schema of an answer that calls no tools. */
  readonly schema?: Schema | undefined;
  readonly maxTokens?: number | undefined;
  readonly sampling?: SamplingOptions | undefined;
  readonly stop?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
};

const MAX_TOKENS = 512;

/** Chats with a model, for adapters: messages in, text and tool calls out. */
export class LocalChat {
  private readonly grammars: Grammars;

  constructor(readonly options: LocalChatOptions) {
    this.grammars = new Grammars(options.model);
  }

  /** Yields the answer's text and tool calls piece by piece, and returns what it cost. */
  async *answer({
    messages,
    tools = [],
    choice = "auto",
    schema,
    maxTokens,
    sampling,
    stop,
    signal,
  }: Asked): AsyncGenerator<Read, GenerationStats> {
    const { model, store } = this.options;
    const told = choice === "none" || tools.length === 0 ? undefined : withTools(model.chat, tools, model.tokenizer);
    const written = told ?? toolForm(model.chat);
    const { form } = written;
    const grammar =
      told && choice !== "none"
        ? await this.ofCalls(
            callGrammar({ form, tools: held(tools), choice, parallel: true, ...(schema !== undefined && { otherwise: schemaOf(schema) }) }),
            signal,
          )
        : schema === undefined
          ? undefined
          : await this.grammars.ofSchema(schema, signal && { signal });
    const plan = chatPlan(spoken(messages, written), { tokenizer: model.tokenizer, chat: told?.chat ?? model.chat });
    const options: GenerateOptions = {
      ...this.options.sampling,
      ...sampling,
      maxNewTokens: maxTokens ?? this.options.maxTokens ?? MAX_TOKENS,
      stop: stop ?? [],
      ...(store && { store }),
      ...(grammar && { grammar }),
      ...(signal && { signal }),
    };
    const generation = model.generate(plan, options);
    const reader = told && new CallReader(form, new Set(tools.map(({ name }) => name)));
    for await (const { text } of generation) {
      const read = reader?.push(text) ?? { said: text, calls: [] };
      if (read.said !== "" || read.calls.length > 0) yield read;
    }
    const rest = reader?.finish();
    if (rest && (rest.said !== "" || rest.calls.length > 0)) yield rest;
    return generation.stats;
  }

  private async ofCalls(text: string | undefined, signal: AbortSignal | undefined): Promise<Grammar | undefined> {
    return text === undefined ? undefined : this.grammars.of({ kind: "lark", text }, signal && { signal });
  }
}

function held(tools: readonly Tool[]): readonly Tool[] {
  return tools.map((tool) => ({ ...tool, parameters: schemaOf(tool.parameters ?? { type: "object" }) }));
}

/** A new id for a tool call. Frameworks match results by it. */
export function callId(): string {
  return `call_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`;
}
