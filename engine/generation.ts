import type { Tokenizer } from "./tokenizer.js";

/** What an answer cost. Times in milliseconds from the call, tokens by how they came to be. */
export type GenerationStats = {
  /** Getting the blocks' KV out of the store, encoding of missing ones included. */
  readonly fetch_ms: number;
  /** Re-encoding K at the new positions and laying the blocks side by side. */
  readonly splice_ms: number;
  /** From the call to the first token: fetch, splice, and the pass over the fresh tokens. */
  readonly first_token_ms: number;
  /** Mean over the tokens after the first; 0 where there was none. */
  readonly per_token_ms: number;
  readonly total_ms: number;
  readonly cached_tokens: number;
  readonly computed_tokens: number;
  readonly generated_tokens: number;
  /** Tokens of blocks that the store did not have and that were encoded on the way. */
  readonly encoded_tokens: number;
  /** What went wrong without harm to the answer, such as a block that could not be stored. */
  readonly warnings: readonly string[];
};

export type GeneratedToken = {
  /** -1 for what is left at the end of an answer that stops within a character. */
  readonly id: number;
  /** Text that this token completes; empty while a character is not whole. */
  readonly text: string;
};

/** An answer as it is generated: iterate it once. */
export type Generation = AsyncIterable<GeneratedToken> & {
  /** Resolves when the answer has ended; rejects with the error that ended it. */
  readonly stats: Promise<GenerationStats>;
};

/** Makes text of tokens one by one; a character that spans several tokens comes with its last. */
export class TextStream {
  private readonly ids: number[] = [];
  private emitted = 0;

  constructor(private readonly tokenizer: Tokenizer) {}

  push(id: number): string {
    this.ids.push(id);
    const text = this.tokenizer.decode(this.ids);
    if (text.endsWith("\uFFFD")) return "";
    return this.advance(text);
  }

  /** What is left when no further token comes. */
  end(): string {
    return this.advance(this.tokenizer.decode(this.ids));
  }

  private advance(text: string): string {
    const fresh = text.slice(this.emitted);
    this.emitted = text.length;
    return fresh;
  }
}
