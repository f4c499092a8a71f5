import type { GeneratedToken, GenerationStats, Tokenizer } from "../engine/index.js";

/**
 * The tokens of the text that has been sent. Tokens that may begin a stop text are held back until the text shows that
 * they do not. If they do, they are not part of the answer.
 */
export class ShownTokens {
  private held: GeneratedToken[] = [];

  push(token: GeneratedToken): readonly GeneratedToken[] {
    if (token.id >= 0) this.held.push(token);
    return token.text === "" ? [] : this.held.splice(0);
  }

  /** The tokens left when the answer has ended. */
  end(finish: GenerationStats["finish"]): readonly GeneratedToken[] {
    return finish === "stop" ? [] : this.held.splice(0);
  }
}

/** A token's log probability with those of its alternatives, in the format of OpenAI's chats. */
export function logprobOf({ id, logprob, top = [] }: GeneratedToken, tokenizer: Tokenizer) {
  return { ...likelihood(id, logprob!, tokenizer), top_logprobs: top.map((each) => likelihood(each.id, each.logprob, tokenizer)) };
}

function likelihood(id: number, logprob: number, tokenizer: Tokenizer) {
  return { token: tokenText(id, tokenizer), logprob, bytes: [...tokenizer.bytesOf(id)] };
}

/** A token's text, or, for a part of a character, its bytes as OpenAI writes them. */
export function tokenText(id: number, tokenizer: Tokenizer): string {
  const bytes = tokenizer.bytesOf(id);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  }
}
