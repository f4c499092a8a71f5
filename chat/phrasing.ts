import type { ChatTemplate, Role, Tokenizer } from "../plan/index.js";
import type { Message } from "./message.js";

/** How a conversation's messages are put to the model, as tokens. */
export type Phrasing = {
  /** From after the last answer to where the next one begins; `first` where nothing but an opening was said before. */
  ask(asked: readonly Message[], options: { readonly first: boolean }): number[];
  /** Between an answer and what is asked after it. */
  readonly afterAnswer: readonly number[];
};

/** Messages in the words of the model's chat template. */
export type ChatPhrasing = Phrasing & {
  /** How many of the first tokens of `ask(asked, { first: true })` are the opening, which stays for ever. */
  openingTokens(asked: readonly Message[]): number;
};

/** The first tokens draw attention whatever they say; a model that loses them loses its way (StreamingLLM, Xiao et al. 2024). */
const SINK_TOKENS = 4;

export function chatPhrasing(tokenizer: Tokenizer, chat: ChatTemplate): ChatPhrasing {
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const begin = control(chat.generationPrompt);
  const say = ({ role, content }: Message, after: Role | undefined) => {
    const { open, close } = chat.frame(role, after);
    return [...control(open), ...tokenizer.encode(chat.content(role, content)), ...control(close)];
  };
  return {
    ask(asked, { first }) {
      const before = (index: number) => asked[index - 1]?.role ?? (first ? undefined : "assistant");
      return [...asked.flatMap((message, index) => say(message, before(index))), ...begin];
    },
    openingTokens([message]) {
      if (message === undefined) return begin.length;
      const opening = message.role === "system" ? say(message, undefined) : control(chat.frame(message.role, undefined).open);
      return Math.max(opening.length, SINK_TOKENS);
    },
    afterAnswer: control(chat.frame("assistant", "user").close),
  };
}
