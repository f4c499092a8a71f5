import type { BlockKey, BlockSource, BlockStore, Model } from "../../engine/index.js";

export type SupplyOptions = { readonly signal?: AbortSignal | undefined };

/** Sees to it that the store holds blocks: by encoding them here, or by asking others to. */
export interface BlockSupply {
  /** Files that are worked on at once, and chunks of one file that are asked for at once. */
  readonly atOnce: number;
  /** Resolves when the store holds the block: whether it had to be encoded for that. */
  supply(key: BlockKey, source: BlockSource, options?: SupplyOptions): Promise<boolean>;
}

/** This process encodes what the store does not hold. */
export function encodeHere(model: Model, store: BlockStore): BlockSupply {
  return {
    atOnce: 1,
    async supply(key, source, { signal } = {}) {
      if (await store.has(key)) return false;
      await store.put(key, await model.encode(source, signal === undefined ? {} : { signal }));
      return true;
    },
  };
}
