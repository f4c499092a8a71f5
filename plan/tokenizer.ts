export type ReadOptions = {
  /** Reads spelled-out control tokens as control tokens; otherwise they stay text. */
  readonly control?: boolean;
  /** The text continues other text: a tokenizer that puts a space before a text's first word does not do so here. */
  readonly continues?: boolean;
};

/** A text being turned into tokens, as far as it has been read. */
export interface Reading {
  readonly ids: readonly number[];
  /** For each token, the text's length (UTF-16 units) covered by the tokens up to it; a split character counts with its last token. */
  readonly ends: readonly number[];
  /** Reads about this many more characters, always in whole words. False when all of the text is read. */
  advance(characters: number): boolean;
}

/** Text to token ids and back, using a model's own vocabulary. */
export interface Tokenizer {
  /** Token ids of text. */
  encode(text: string, options?: ReadOptions): number[];
  /** The same step by step, for texts of any length: reading takes time linear in the text. */
  read(text: string, options?: ReadOptions): Reading;
  /** Text of token ids, without control tokens; `continues` if the ids follow others. */
  decode(ids: readonly number[], options?: { readonly continues?: boolean }): string;
  /** Ids run from 0 to `size - 1`. */
  readonly size: number;
  /** UTF-8 bytes that a token writes into continuing text; none for control tokens. */
  bytesOf(id: number): Uint8Array;
  /** Tokens before and after a text that stands alone (`add_bos_token`, `add_eos_token`). */
  readonly begin: readonly number[];
  readonly end: readonly number[];
}

/** Characters read at a time if the answer may come early. */
const STEP = 4_096;

/**
 * Token ids of text if there are at most `limit`; undefined otherwise, after no more work than reading up to the limit.
 */
export function encodeWithin(
  tokenizer: Pick<Tokenizer, "read">,
  text: string,
  limit: number,
  options: ReadOptions = {},
): readonly number[] | undefined {
  const reading = tokenizer.read(text, options);
  for (let more = true; more && reading.ids.length <= limit; ) more = reading.advance(STEP);
  return reading.ids.length <= limit ? reading.ids : undefined;
}
