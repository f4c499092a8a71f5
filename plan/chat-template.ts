import type { ToolCall } from "./calls.js";

export type Role = "system" | "user" | "assistant";

/** Control text around the content of one message. */
export type Frame = { readonly open: string; readonly close: string };

/** A message as a template writes it: its text, and the control text around it. */
export type Framed = Frame & { readonly text: string };

/** Texts between which a model thinks aloud; what stands between them is not its answer. */
export type ThoughtTags = { readonly begin: string; readonly end: string };

/** A function that a model may request a call of; `parameters` is the JSON Schema of its arguments, any if omitted. */
export type Tool = {
  readonly name: string;
  readonly description?: string | undefined;
  readonly parameters?: Readonly<Record<string, unknown>> | undefined;
};

/**
 * How a model writes calls of functions: each object between tags (Hermes, Qwen), one object and nothing else (Llama 3), or a
 * list of objects (Mistral).
 */
export type CallForm = "tags" | "object" | "list";

/** A call in an answer; its results refer to it by the id. */
export type NamedCall = ToolCall & { readonly id: string };

/** How a template writes calls and their results, if it has separate turns for them (Llama 3's `ipython`, Mistral's `[TOOL_RESULTS]`). */
export interface ToolTurns {
  /**
   * An answer that requests calls, between what opens and what closes an answer; such templates omit the answer's other text.
   * @throws KvspliceError `bad_argument` for more calls than the template allows in one answer
   */
  calls(calls: readonly NamedCall[]): Framed;
  /** What a call returned; `first` for the result that directly follows the answer that requested it. */
  result(content: string, id: string, first: boolean): Framed;
}

/** A model's chat template, as the text around the content of each message. */
export interface ChatTemplate {
  /** Control text around a message's content; `after` is the role of the previous message, undefined for the first. */
  frame(role: Role, after: Role | undefined): Frame;
  /** A message's content as the template writes it: some templates trim white space at its ends. */
  content(role: Role, text: string): string;
  /** Control text after which the model answers, without thinking first if the template can express that. */
  readonly generationPrompt: string;
  /** Texts that end an answer, if control tokens do not. */
  readonly stop: readonly string[];
  /** The tags of thoughts, if the model may think before it answers; `begun` if the generation prompt has opened a thought. */
  readonly thought: (ThoughtTags & { readonly begun: boolean }) | undefined;
  /** If the template supports tools: the same template with these in it; `turns` if results are not user turns. */
  readonly tools?:
    | {
        readonly calls: CallForm;
        readonly turns: ToolTurns | undefined;
        /** The template whose prompts offer these tools to the model. */
        with(tools: readonly Tool[]): ChatTemplate;
      }
    | undefined;
}
