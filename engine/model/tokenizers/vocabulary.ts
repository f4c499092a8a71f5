import type { WordRules } from "./words.js";

/** What a token is for; GGUF's `token_type` by name. */
export type TokenKind = "normal" | "unknown" | "control" | "user-defined" | "unused" | "byte";

/** How two neighbouring tokens become one. */
export type Merging =
  /** Byte-pair encoding (Sennrich et al. 2016): `"left right"`, the first of these pairs first. */
  | { readonly kind: "ranks"; readonly merges: readonly string[] }
  /** SentencePiece's byte-pair encoding (Kudo and Richardson 2018): any two whose text is a token, the highest score first. */
  | { readonly kind: "scores"; readonly scores: readonly number[] };

/** How text is written in tokens. */
export type Spelling =
  /** Each byte of UTF-8 as one printable character, as GPT-2 has them (Radford et al. 2019). */
  | { readonly kind: "bytes" }
  /**
   * Characters, with U+2581 for a space, and `<0x0A>` for each byte of a character that no token has. `prefix`: where
   * a space is put before text, "everywhere" being where text begins and after tokens that are spelled out; `beforeSpace`:
   * also where it begins with one. `breaks`: runs of line feeds are words of their own.
   */
  | { readonly kind: "marked"; readonly prefix: "everywhere" | "first" | "never"; readonly beforeSpace: boolean; readonly breaks: boolean };

/** All that a model's files say about its tokens, whatever format they have. */
export type Vocabulary = {
  /** By id, as they are written in the file. */
  readonly tokens: readonly string[];
  /** By id. */
  readonly kinds: readonly TokenKind[];
  readonly merging: Merging;
  readonly spelling: Spelling;
  /** How text falls into words, none of which shares a token with another; absent where it does not. */
  readonly rules?: WordRules;
  /** A word that is a token is that token, whatever the merges say. */
  readonly wholeWords: boolean;
  /** Whether text is composed first (Unicode's NFC). */
  readonly composed: boolean;
  /** Control and user-defined tokens that take the white space after them, and before them, with them. */
  readonly takesAfter: ReadonlySet<number>;
  readonly takesBefore: ReadonlySet<number>;
  /** Tokens that a text which stands alone has before it, and after it. */
  readonly begin: readonly number[];
  readonly end: readonly number[];
};
