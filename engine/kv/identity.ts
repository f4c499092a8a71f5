import { createHash } from "node:crypto";
import type { BlockKey, BlockSource } from "../../plan/index.js";
import type { Precision } from "./block.js";

/** Raise it with every change of how blocks are encoded or of what stands in a key. */
const BLOCK_VERSION = 3;

/** What a block's KV depends on, but for its tokens and what they saw. */
export type BlockIdentity = {
  /** Hash of the model's weights. */
  readonly weights: string;
  /** What was chosen when the model was opened. */
  readonly variant: string;
  /**
   * Who computed it, and how: two that round differently give other KV for the same tokens, so that neither's blocks are
   * found by the other.
   */
  readonly arithmetic: string;
  readonly precision: Precision;
  /** The adapter that acts on all passes, by a hash of it. */
  readonly adapter?: string | undefined;
  /** The adapter that acts on blocks that say so. */
  readonly encodingAdapter?: string | undefined;
};

/** The key of a block: SHA-256, hex, of its identity and of its tokens, their offsets, and what they saw before them. */
export function blockKey({ weights, variant, arithmetic, precision, adapter, encodingAdapter }: BlockIdentity, source: BlockSource): BlockKey {
  const { tokens, offsets, after = [], adapted } = source;
  // The lengths stand in front, so that no two sources read alike.
  const head = { version: BLOCK_VERSION, weights, variant, arithmetic, precision, adapter: adapted ? (encodingAdapter ?? adapter) : adapter, after: after.length, tokens: tokens.length, offsets: offsets !== undefined };
  const hash = createHash("sha256").update(`${JSON.stringify(head)}\n`);
  for (const values of [after, tokens, offsets ?? []]) hash.update(Int32Array.from(values));
  return hash.digest("hex");
}
