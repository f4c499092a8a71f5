import type { Description, Diagnostic, RenderedPart } from "../../pml/index.js";

/** Responses of the playground's routes to its page. Times are in milliseconds, lengths and positions in tokens. */

export type State = {
  /** The default model: that of the first of `corpora`, or the one requested. */
  readonly model: ModelState;
  /** Everything that can be asked: each model with each of its corpora. */
  readonly corpora: readonly CorpusState[];
  /** Files that the PML tab can open; empty if the server has no folder of schemas. */
  readonly schemas: readonly SchemaFile[];
  /** Number of further files in that folder, beyond the limit. */
  readonly more_schemas: number;
  /** Maximum bytes of one upload. */
  readonly upload_bytes: number;
};

export type ModelState = {
  readonly name: string;
  readonly contextLength: number;
  readonly linkTokens: { readonly most: number; readonly default: number };
  /** How documents are linked unless a question says otherwise, in the form of `--link`. */
  readonly link: string;
  readonly temperature: number;
};

/** `name` is empty for a model without a corpus. */
export type CorpusState = {
  readonly name: string;
  readonly model: string;
  readonly files: number;
  readonly chunks: number;
  readonly tokens: number;
};

export type SchemaFile = { readonly file: string; readonly prompts: readonly string[] };

/**
 * How a piece of a prompt gets its KV: `cached` from the store, or `encoded` as a block that was missing and is stored from
 * now on. `link` tokens and `new` tokens are computed, seeing everything before them.
 */
export type PieceKind = "cached" | "encoded" | "link" | "new";

export type PieceView = {
  readonly kind: PieceKind;
  readonly label: string;
  readonly tokens: number;
  /** Its positions, one range for each run without gaps. */
  readonly places: readonly (readonly [start: number, end: number])[];
  /** Its text, cut if it is long; empty if it has only control tokens. */
  readonly text: string;
  /** Number of characters cut at the end. */
  readonly more: number;
  /** Index of its source. */
  readonly source?: number;
};

/** A document that was found; `ref` is its name in prompts, such as `forth-bridge.md#2`. */
export type SourceView = { readonly title: string; readonly ref: string; readonly tokens: number };

/** `full`: the same prompt with nothing cached. */
export type RunName = "spliced" | "full";

/** The parts of the time to the first token, and the mean time per token after that. */
export type RunStats = {
  readonly queue_ms: number;
  readonly fetch_ms: number;
  readonly splice_ms: number;
  /** Time to find out which tokens the question attends to. */
  readonly look_ms: number;
  readonly first_token_ms: number;
  readonly per_token_ms: number;
  readonly computed_tokens: number;
  /** Those of the computed tokens that are recomputed tokens of documents. */
  readonly recomputed_tokens: number;
  /** Whether the maximum length cut the answer off. */
  readonly cut: boolean;
};

/** The tokens of a piece that linking recomputed, with its text in parts. */
export type AgainView = {
  readonly piece: number;
  readonly tokens: number;
  readonly parts: readonly { readonly text: string; readonly again: boolean }[];
};

/** Formatted text: a string, or an element by its HTML name. */
export type Formatted =
  | string
  | { readonly tag: FormattedTag; readonly children: readonly Formatted[]; readonly href?: string; readonly start?: number };

export type FormattedTag =
  | "p"
  | "h3"
  | "h4"
  | "h5"
  | "h6"
  | "blockquote"
  | "ul"
  | "ol"
  | "li"
  | "pre"
  | "hr"
  | "table"
  | "tr"
  | "th"
  | "td"
  | "em"
  | "strong"
  | "code"
  | "a"
  | "br";

/** The events of an answer: the plan, what had to be encoded, and for each run start, linked, token ..., done. */
export type AskEvent =
  | {
      readonly type: "plan";
      readonly retrieve_ms: number;
      readonly pieces: readonly PieceView[];
      /** Best first. */
      readonly sources: readonly SourceView[];
      /** False if nothing in the corpus answers the question, so the model answers without documents. */
      readonly found: boolean;
      /** Number of exchanges dropped from the conversation, because they no longer fit. */
      readonly dropped: number;
    }
  | { readonly type: "encoded"; readonly tokens: number; readonly ms: number }
  | { readonly type: "start"; readonly run: RunName }
  | { readonly type: "linked"; readonly again: readonly AgainView[] }
  | { readonly type: "token"; readonly run: RunName; readonly text: string; readonly at_ms: number }
  /** The spliced answer so far, parsed as Markdown; sent after each line and at the end. */
  | { readonly type: "formatted"; readonly blocks: readonly Formatted[] }
  | { readonly type: "done"; readonly run: RunName; readonly stats: RunStats }
  | { readonly type: "error"; readonly message: string };

/** The result of checking a schema and a prompt while they are edited. Places name the files `schema` and `prompt`. */
export type MarkupReport = {
  readonly diagnostics: readonly Diagnostic[];
  /** Missing while the schema has errors. */
  readonly layout?: { readonly length: number; readonly blocks: number; readonly tree: Description };
  /** Missing while schema or prompt has errors. */
  readonly prompt?: { readonly pieces: readonly PieceView[]; readonly parts: readonly RenderedPart[]; readonly end: number };
};
