export type Role = "system" | "user" | "assistant";

/** Control text around the content of one message. */
export type Frame = { readonly open: string; readonly close: string };

/** Texts between which a model thinks aloud; what stands there is not its answer. */
export type ThoughtTags = { readonly begin: string; readonly end: string };

/** A model's chat template, as the text that stands around the content of each message. */
export interface ChatTemplate {
  /** Control text around a message's content; `after` is the role of the message before it, undefined for the first. */
  frame(role: Role, after: Role | undefined): Frame;
  /** A message's content as the template writes it: some cut white space at its ends. */
  content(role: Role, text: string): string;
  /** Control text after which the model answers, where the template can say so without thinking first. */
  readonly generationPrompt: string;
  /** Texts that end an answer, where control tokens do not. */
  readonly stop: readonly string[];
  /** Where the model may think before it answers; `begun` if the generation prompt has begun a thought. */
  readonly thought: (ThoughtTags & { readonly begun: boolean }) | undefined;
}
