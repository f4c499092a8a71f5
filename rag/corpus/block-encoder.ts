import { type BlockKey, type BlockSource, type BlockStore, type Model, storeBlock } from "../../engine/index.js";

/** A block that is no longer needed may be cancelled. */
export type EncodeMissingOptions = { readonly signal?: AbortSignal | undefined };

/** Ensures that the store has blocks, by encoding them here or requesting them from others. */
export interface BlockEncoder {
  /** Files processed concurrently, and chunks of one file requested concurrently. */
  readonly atOnce: number;
  /** Resolves when the store has the block, with whether it had to be encoded. */
  encodeMissing(key: BlockKey, source: BlockSource, options?: EncodeMissingOptions): Promise<boolean>;
}

/** Encodes missing blocks in this process. */
export function encodeHere(model: Model, store: BlockStore): BlockEncoder {
  return {
    get atOnce() {
      return model.encodesAtOnce ?? 1;
    },
    encodeMissing: (_key, source, { signal } = {}) => storeBlock(model, source, { store, signal, pinned: true }),
  };
}
