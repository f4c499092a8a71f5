import type { Range } from "../../plan/index.js";
import type { Block, Precision } from "../kv/block.js";
import type { KvForm } from "../kv/form.js";

/** The KV of one running prompt, row by row: K after the rotary embedding of the row's position. */
export interface Cache {
  /** Rows that it holds. */
  readonly length: number;
  /** Rows that there is room for. */
  readonly capacity: number;
  /** Positions of the rows, `[length]`; void when rows are added or removed. */
  readonly positions: Int32Array;
  /**
   * Makes room for `tokens` rows in all; what is cached stays.
   * @throws KvspliceError `too_long` where there is no memory for them
   */
  reserve(tokens: number): void;
  /** Lays a block behind the rows, token i turned for `positions[i]`, leaving out tokens within `omit`. The block must fit (`blockFits`). */
  splice(block: Block, positions: Int32Array, omit?: readonly Range[]): void;
  /** Rows `[from, to)` as a block: K without the rotary embedding. The cache stays as it is. */
  extract(from: number, to: number, precision: Precision): Block | Promise<Block>;
  /** Leaves the first `length` rows. */
  truncate(length: number): void;
}

/** Some tokens of one prompt. Their KV joins its cache. */
export type PassPart = {
  readonly cache: Cache;
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  /** What of the cached rows each token sees; all rows when left out. */
  readonly visible?: Visible | undefined;
  /** How many of the last tokens' logits are wanted. */
  readonly logits: number;
  /** The model's encoding adapter acts on them, where it has one: such a part is alone in its pass. */
  readonly adapted?: boolean | undefined;
};

/** How many of the first cached rows each token sees, and the row from which on all of them are seen. */
export type Visible = { readonly counts: readonly number[]; readonly shared: number };

/**
 * What holds KV and runs passes. Nothing above it knows how memory is laid out. A model has one, and gives it only
 * caches that it made.
 */
export interface Backend {
  /** What one token's KV is made of. */
  readonly form: KvForm;
  /** Parts that one pass takes now. */
  readonly slots: number;
  /** Parts that one pass takes at most, once `widen` was called. */
  readonly mostSlots: number;
  /** Several answers run: has what passes over several parts need made ready, beside the passes that run meanwhile. */
  widen(): void;
  /** Tokens of one prompt that a pass is best given, behind so many rows: more make no pass faster. */
  passTokens(rows: number): number;
  createCache(): Cache;
  /**
   * One forward pass over at most `slots` parts, each of another cache; a part's logits do not depend on the others.
   * @returns for each part logits `[part.logits, vocabulary]` of its last tokens; the caller's to keep
   */
  run(parts: readonly PassPart[]): Promise<Float32Array[]>;
  /**
   * How much the tokens of a part look at each row, of the cached ones and of their own: attention, summed over the heads
   * of the layers that tell what an answer depends on, and over the tokens by their weights. The cache stays as it is.
   * @param asks a weight for each of the part's tokens
   */
  look(part: PassPart, asks: readonly number[]): Promise<Float32Array>;
  /** Frees what it holds; no pass runs. */
  close(): Promise<void>;
}
