export interface Tokenizer {
  /** Token ids of text. Control tokens that are spelled out in the text stay text, unless `control` is set. */
  encode(text: string, options?: { readonly control?: boolean }): number[];
  /** Text of token ids, control tokens left out. */
  decode(ids: readonly number[]): string;
}
