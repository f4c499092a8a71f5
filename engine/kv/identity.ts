import { createHash } from "node:crypto";
import type { BlockKey, BlockSource } from "../../plan/index.js";
import type { Precision } from "./block.js";

/** Raise it with every change to how blocks are encoded or to what a key contains. */
const BLOCK_VERSION = 3;

/** What a block's KV depends on, apart from its tokens and what they saw. */
export type BlockIdentity = {
  /** Hash of the model's weights. */
  readonly weights: string;
  /** What was chosen when the model was opened. */
  readonly variant: string;
  /**
   * What computed it, and how: two that round differently produce different KV for the same tokens, so neither must find the
   * other's blocks.
   */
  readonly arithmetic: string;
  readonly precision: Precision;
  /** The adapter that acts on all passes, as a hash. */
  readonly adapter?: string | undefined;
  /** The adapter that acts on blocks marked `adapted`. */
  readonly encodingAdapter?: string | undefined;
};

/** The key of a block: SHA-256, in hex, of its identity, its tokens and their offsets, and what they saw before them. */
export function blockKey(
  { weights, variant, arithmetic, precision, adapter, encodingAdapter }: BlockIdentity,
  source: BlockSource,
): BlockKey {
  const { tokens, offsets, after = [], adapted } = source;
  // The lengths come first, so that no two sources hash the same text.
  const head = {
    version: BLOCK_VERSION,
    weights,
    variant,
    arithmetic,
    precision,
    adapter: adapted ? (encodingAdapter ?? adapter) : adapter,
    after: after.length,
    tokens: tokens.length,
    offsets: offsets !== undefined,
  };
  const hash = createHash("sha256").update(`${JSON.stringify(head)}\n`);
  for (const values of [after, tokens, offsets ?? []]) hash.update(Int32Array.from(values));
  return hash.digest("hex");
}
