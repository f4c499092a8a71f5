import type { ChatTemplate, Framed, Role, Tokenizer } from "../plan/index.js";
import type { Exchange, Message } from "./message.js";

/** How a conversation's messages become tokens. */
export type Phrasing = {
  /** The messages after the last answer, one by one; `first` if only an opening precedes them. */
  ask(asked: readonly Message[], options: { readonly first: boolean }): number[][];
  /** Between a question and its answer. */
  readonly begin: readonly number[];
  /** Between an answer and the next question. */
  readonly afterAnswer: readonly number[];
};

/** Messages in the words of the model's chat template. */
export type ChatPhrasing = Phrasing & {
  /** How many of the first tokens of `ask(asked, { first: true })` (and of `begin`) are the opening, which always stays. */
  openingTokens(asked: readonly Message[]): number;
};

/** The first tokens draw attention whatever they are; a model that loses them degrades (StreamingLLM, Xiao et al. 2024). */
const SINK_TOKENS = 4;

export function chatPhrasing(tokenizer: Tokenizer, chat: ChatTemplate): ChatPhrasing {
  const control = (text: string) => tokenizer.encode(text, { control: true });
  const begin = control(chat.generationPrompt);
  const framed = (message: Message, after: Role | undefined): Framed =>
    message.role === "tool" ? message.written : { ...chat.frame(message.role, after), text: chat.content(message.role, message.content) };
  const say = (message: Message, after: Role | undefined) => {
    const { open, text, close } = framed(message, after);
    return [...control(open), ...tokenizer.encode(text), ...control(close)];
  };
  return {
    ask(asked, { first }) {
      const before = (index: number) => {
        const role = asked[index - 1]?.role ?? (first ? undefined : "assistant");
        return role === "tool" ? "assistant" : role; // what follows a result is written as after an answer
      };
      return asked.map((message, index) => say(message, before(index)));
    },
    begin,
    openingTokens([message]) {
      if (message === undefined) return begin.length;
      const opening = message.role === "system" ? say(message, undefined) : control(framed(message, undefined).open);
      return Math.max(opening.length, SINK_TOKENS);
    },
    afterAnswer: control(chat.frame("assistant", "user").close),
  };
}

/** An exchange's answer, without what opens and closes it. */
export function answerTokens({ answer, written }: Exchange, tokenizer: Tokenizer): number[] {
  if (written) return [...tokenizer.encode(written.open, { control: true }), ...tokenizer.encode(written.text)];
  return answer === undefined ? [] : [...tokenizer.encode(answer)];
}
