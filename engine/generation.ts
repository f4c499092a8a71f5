/** What an answer cost. Times in milliseconds from the call, tokens by how they came to be. */
export type GenerationStats = {
  /** Until a place among the running answers was free. */
  readonly queue_ms: number;
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
  /** Tokens that were guessed from the prompt, and those of them that the model chose. */
  readonly drafted_tokens: number;
  readonly accepted_tokens: number;
  /** What ended the answer: the model's end token, the limit of tokens (or of the context), or a stop text. */
  readonly finish: "end" | "length" | "stop";
  /** Tokens of blocks that the store did not have and that were encoded on the way. */
  readonly encoded_tokens: number;
  /** What went wrong without harm to the answer, such as a block that could not be stored. */
  readonly warnings: readonly string[];
};

export type GeneratedToken = {
  /** -1 for what is left at the end of an answer that stops within a character. */
  readonly id: number;
  /** Text that this token completes; empty while a character is not whole, or may begin a stop text. */
  readonly text: string;
  /** Natural logarithm of the token's probability, where asked for. */
  readonly logprob?: number;
  /** The likeliest tokens in its place, the likeliest first, where asked for. */
  readonly top?: readonly { readonly id: number; readonly text: string; readonly logprob: number }[];
};

/** An answer as it is generated: iterate it once. */
export type Generation = AsyncIterable<GeneratedToken> & {
  /** Resolves when the answer has ended; rejects with the error that ended it. */
  readonly stats: Promise<GenerationStats>;
};
