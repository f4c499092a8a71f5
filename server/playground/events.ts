import type { Description, Diagnostic, RenderedPart } from "../../pml/index.js";

/** What the playground's routes say to its page. Times in milliseconds, lengths and positions in tokens. */

export type State = {
  readonly model: { readonly name: string; readonly contextLength: number; readonly linkTokens: { readonly most: number; readonly default: number } };
  readonly corpora: readonly CorpusState[];
  /** Files that the PML tab can open; empty where the server was given no folder of schemas. */
  readonly schemas: readonly SchemaFile[];
};

export type CorpusState = { readonly name: string; readonly files: number; readonly chunks: number; readonly tokens: number };

export type SchemaFile = { readonly file: string; readonly prompts: readonly string[] };

/**
 * How a piece of a prompt gets its KV: `cached` from the store, `encoded` as a block that the store lacked and keeps
 * from now on; computed in the sight of all before it: `link` tokens, and what is `new`.
 */
export type PieceKind = "cached" | "encoded" | "link" | "new";

export type PieceView = {
  readonly kind: PieceKind;
  readonly label: string;
  readonly tokens: number;
  /** Its positions, a range for each run without gaps. */
  readonly places: readonly (readonly [start: number, end: number])[];
  /** Cut when it is long; empty where all its tokens are control tokens. */
  readonly text: string;
  /** Index of the source that it is. */
  readonly source?: number;
};

/** A document that was found; `ref` is what prompts call it, such as `forth-bridge.md#2`. */
export type SourceView = { readonly title: string; readonly ref: string; readonly tokens: number };

/** `full`: the same prompt with nothing cached. */
export type RunName = "spliced" | "full";

/** What the time to the first token went to, after which a token took `per_token_ms` on average. */
export type RunStats = {
  readonly queue_ms: number;
  readonly fetch_ms: number;
  readonly splice_ms: number;
  readonly first_token_ms: number;
  readonly per_token_ms: number;
};

/** What the answer to `ask` streams: the plan, what had to be encoded, then for each run start, token ..., done. */
export type AskEvent =
  | { readonly type: "plan"; readonly retrieve_ms: number; readonly pieces: readonly PieceView[]; /** The best first. */ readonly sources: readonly SourceView[] }
  | { readonly type: "encoded"; readonly tokens: number; readonly ms: number }
  | { readonly type: "start"; readonly run: RunName }
  | { readonly type: "token"; readonly run: RunName; readonly text: string; readonly at_ms: number }
  | { readonly type: "done"; readonly run: RunName; readonly stats: RunStats }
  | { readonly type: "error"; readonly message: string };

/** What is known of a schema and a prompt while they are written. Places name the files `schema` and `prompt`. */
export type MarkupReport = {
  readonly diagnostics: readonly Diagnostic[];
  /** Left out while the schema has an error. */
  readonly layout?: { readonly length: number; readonly blocks: number; readonly tree: Description };
  /** Left out while schema or prompt have an error. */
  readonly prompt?: { readonly pieces: readonly PieceView[]; readonly parts: readonly RenderedPart[]; readonly end: number };
};
