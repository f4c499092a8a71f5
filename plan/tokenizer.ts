export type ReadOptions = {
  /** Read control tokens that are spelled out as such; otherwise they stay text. */
  readonly control?: boolean;
  /** The text goes on from other text: a tokenizer that puts a space before a text's first word puts none. */
  readonly continues?: boolean;
};

/** A text on its way to tokens, so far as it has been read. */
export interface Reading {
  readonly ids: readonly number[];
  /** Of the text, the length (in UTF-16 units) that the tokens up to each one cover whole; a character cut by tokens counts with its last. */
  readonly ends: readonly number[];
  /** Reads about so many more characters, and no word less than whole. False when all is read. */
  advance(characters: number): boolean;
}

export interface Tokenizer {
  /** Token ids of text. */
  encode(text: string, options?: ReadOptions): number[];
  /** The same bit by bit, for texts of any length: reading takes time linear in the text. */
  read(text: string, options?: ReadOptions): Reading;
  /** Text of token ids, control tokens left out; `continues` where the ids go on from others. */
  decode(ids: readonly number[], options?: { readonly continues?: boolean }): string;
  /** Tokens that a text which stands alone has before it, and after it (`add_bos_token`, `add_eos_token`). */
  readonly begin: readonly number[];
  readonly end: readonly number[];
}

/** Read at a time where the answer may come early. */
const STEP = 4_096;

/**
 * Token ids of text if there are at most `limit`; undefined otherwise, after no more work than the limit takes.
 */
export function encodeWithin(tokenizer: Pick<Tokenizer, "read">, text: string, limit: number, options: ReadOptions = {}): readonly number[] | undefined {
  const reading = tokenizer.read(text, options);
  for (let more = true; more && reading.ids.length <= limit; ) more = reading.advance(STEP);
  return reading.ids.length <= limit ? reading.ids : undefined;
}
