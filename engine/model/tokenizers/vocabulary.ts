import type { WordRules } from "./words.js";

/** A token's purpose: GGUF's `token_type` by name. */
export type TokenKind = "normal" | "unknown" | "control" | "user-defined" | "unused" | "byte";

/** How two neighbouring tokens become one. */
export type Merging =
  /** Byte-pair encoding (Sennrich et al. 2016): `"left right"`, earlier pairs first. */
  | { readonly kind: "ranks"; readonly merges: readonly string[] }
  /** SentencePiece's byte-pair encoding (Kudo and Richardson 2018): any two tokens that join into a third, highest score first. */
  | { readonly kind: "scores"; readonly scores: readonly number[] };

/** How tokens spell text. */
export type Spelling =
  /** Each UTF-8 byte as one printable character, as in GPT-2 (Radford et al. 2019). */
  | { readonly kind: "bytes" }
  /**
   * Characters, with U+2581 for a space, and `<0x0A>` for each byte of a character in no token. `prefix`: where
   * a space is put before text; "everywhere" means at its start and after spelled-out tokens; `beforeSpace`:
   * even if it begins with a space. `breaks`: runs of line feeds are separate words.
   */
  | { readonly kind: "marked"; readonly prefix: "everywhere" | "first" | "never"; readonly beforeSpace: boolean; readonly breaks: boolean };

/** Everything that a model's files say about its tokens, whatever their format. */
export type Vocabulary = {
  /** By id, as spelled in the file. */
  readonly tokens: readonly string[];
  /** By id. */
  readonly kinds: readonly TokenKind[];
  readonly merging: Merging;
  readonly spelling: Spelling;
  /** How text is split into words, which share no tokens; absent if it is not split. */
  readonly rules?: WordRules;
  /** A word that is in the vocabulary is one token, whatever the merges say. */
  readonly wholeWords: boolean;
  /** Whether text is composed first (Unicode's NFC). */
  readonly composed: boolean;
  /** Control and user-defined tokens that absorb the white space after them, and before them. */
  readonly takesAfter: ReadonlySet<number>;
  readonly takesBefore: ReadonlySet<number>;
  /** Tokens before and after a text that stands alone. */
  readonly begin: readonly number[];
  readonly end: readonly number[];
};
