import type { ChatTemplate, Tokenizer } from "../plan/index.js";
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
  const framesOf = (first: boolean) => {
    const frame = (role: Message["role"]) => {
      const { open, close } = chat.frame(role, { first });
      return { open: control(open), close: control(close) };
    };
    return { system: frame("system"), user: frame("user"), assistant: frame("assistant") };
  };
  const [firstFrames, frames] = [framesOf(true), framesOf(false)];
  const begin = control(chat.generationPrompt);
  const say = ({ role, content }: Message, first: boolean) => {
    const { open, close } = (first ? firstFrames : frames)[role];
    return [...open, ...tokenizer.encode(content), ...close];
  };
  return {
    ask: (asked, { first }) => [...asked.flatMap((message, index) => say(message, first && index === 0)), ...begin],
    openingTokens([message]) {
      if (message === undefined) return begin.length;
      const opening = message.role === "system" ? say(message, true) : firstFrames[message.role].open;
      return Math.max(opening.length, SINK_TOKENS);
    },
    afterAnswer: frames.assistant.close,
  };
}
