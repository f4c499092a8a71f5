import type { Tokenizer } from "../plan/index.js";

/** Multiple of the context beyond which the exact number of tokens does not matter. */
const CONTEXTS = 4;

/** Characters counted at a time. */
const SLICE = 16_384;

/** More tokens than any prompt could hold: counting stops there. */
export class BeyondCount extends Error {}

export type Encode = Tokenizer["encode"];

/**
 * An encoder that gives up on a text with far more tokens than the context: eight megabytes would take minutes.
 * `limit` is `Infinity` if the context is unknown.
 */
export function boundedEncoder({ tokenizer, contextLength }: { readonly tokenizer: Tokenizer; readonly contextLength?: number }): {
  /** Throws `BeyondCount`. */
  readonly encode: Encode;
  readonly limit: number;
} {
  const limit = contextLength === undefined ? Number.POSITIVE_INFINITY : contextLength * CONTEXTS;
  return {
    limit,
    encode(text, options) {
      if (text.length > limit) mustBeCountable(text, limit, tokenizer);
      return tokenizer.encode(text, options);
    },
  };
}

/** In slices, which together have at most a few tokens more than the whole. */
function mustBeCountable(text: string, limit: number, tokenizer: Tokenizer): void {
  let tokens = 0;
  for (let at = 0; at < text.length; at += SLICE) {
    tokens += tokenizer.encode(text.slice(at, at + SLICE)).length;
    if (tokens > limit + text.length / SLICE) throw new BeyondCount();
  }
}
