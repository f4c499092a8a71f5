import type { KvspliceError, Range } from "../../plan/index.js";
import type { Block, Precision } from "../kv/block.js";
import type { KvForm } from "../kv/form.js";

/** The KV of one running prompt, row by row: K after the rotary embedding of the row's position. Calls take effect in order. */
export interface Cache {
  /** Its rows, including those of a splice in progress. */
  readonly length: number;
  /** Rows that fit in its memory. */
  readonly capacity: number;
  /**
   * Makes room for `tokens` rows in total; what is cached stays.
   * @throws KvspliceError `too_long` if there is not enough memory for them
   */
  reserve(tokens: number): void | Promise<void>;
  /**
   * Places a block after the rows, token i rotated for `positions[i]`, leaving out tokens within `omit`. The block must fit
   * (`blockFits`). After a failure the cache must not be used any more.
   */
  splice(block: Block, positions: Int32Array, omit?: readonly Range[]): void | Promise<void>;
  /** Rows `[from, to)` as a block: K without the rotary embedding. The cache is unchanged. */
  extract(from: number, to: number, precision: Precision): Block | Promise<Block>;
  /** Keeps only the first `length` rows. */
  truncate(length: number): void;
  /** Frees its memory; it must not be used again. */
  free(): void;
}

/** Some tokens of one prompt. Their KV is added to its cache. */
export type PassPart = {
  readonly cache: Cache;
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** Which cached rows each token sees; all rows if omitted. */
  readonly visible?: Visible | undefined;
  /** How many of the last tokens' logits are needed. */
  readonly logits: number;
  /** The model's encoding adapter acts on them, if it has one. */
  readonly adapted?: boolean | undefined;
  /** They belong to a block and are computed apart from answers (`encodesApart`, or adapted): such a part is alone in its pass. */
  readonly apart?: boolean | undefined;
};

/** How many of the first cached rows each token sees, and the row from which on all tokens see all rows. */
export type Visible = { readonly counts: readonly number[]; readonly shared: number };

/**
 * Stores KV and runs passes. Nothing above it knows how memory is laid out. A model has one, and passes it only caches that
 * it made.
 */
export interface Backend {
  /** What one token's KV consists of. */
  readonly form: KvForm;
  /** Whether blocks are encoded with different kernels than answers. */
  readonly encodesApart: boolean;
  /** Maximum parts in one pass at present. */
  readonly slots: number;
  /** Maximum parts in one pass once `widen` was called. */
  readonly mostSlots: number;
  /** Several answers are running: prepares what passes over several parts need, while passes continue. */
  widen(): void;
  /** The best number of tokens of one prompt for a pass, after this many rows: more do not make passes faster. */
  passTokens(rows: number): number;
  createCache(): Cache;
  /**
   * One forward pass over at most `slots` parts, each with a different cache; a part's logits do not depend on the others.
   * @returns for each part logits `[part.logits, vocabulary]` of its last tokens, which the caller may keep
   */
  run(parts: readonly PassPart[]): Promise<Float32Array[]>;
  /**
   * How much attention the tokens of a part pay to each row, cached rows and their own: attention summed over the heads of the
   * layers that show what an answer depends on, and over the tokens by their weights. The cache is unchanged.
   * @param asks one weight for each of the part's tokens
   */
  look(part: PassPart, asks: readonly number[]): Promise<Float32Array>;
  /** What ended it: it runs no more passes. */
  readonly failure: KvspliceError | undefined;
  /** Frees its memory; no pass may be running. */
  close(): Promise<void>;
}

/** A block to be encoded: those of the tokens from `from` on; the others are what it sees before it. */
export type BlockItem = { readonly tokens: readonly number[]; readonly positions: readonly number[]; readonly from: number };

export type BlockOptions = {
  readonly precision: Precision;
  readonly signal: AbortSignal;
  /** Nobody is waiting for it: others go first. */
  readonly background?: boolean | undefined;
  /** The model's encoding adapter acts on it, if it has one. */
  readonly adapted?: boolean | undefined;
};

/** Encodes blocks alongside a backend, several in one pass, with the same KV except for rounding. */
export interface BlockEncoder {
  /** Number of blocks worth requesting at once. */
  readonly atOnce: number;
  /**
   * @returns undefined if it cannot: the backend does then
   * @throws KvspliceError `cancelled`
   */
  encode(item: BlockItem, options: BlockOptions): Promise<Block | undefined>;
  /** Frees its memory; no encoding may be running. */
  close(): Promise<void>;
}
