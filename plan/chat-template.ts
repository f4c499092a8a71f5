export type Role = "system" | "user" | "assistant";

/** A model's chat template, as the text that stands before and after the content of each message. */
export interface ChatTemplate {
  /** Control text around one message's content; `first` when no message stands before it. */
  frame(role: Role, options?: { readonly first?: boolean }): { readonly open: string; readonly close: string };
  /** Control text after which the model answers. */
  readonly generationPrompt: string;
}
