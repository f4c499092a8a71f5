import { storeBlock, type BlockKey, type BlockSource, type BlockStore, type Model } from "../../engine/index.js";

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
    supply: (_key, source, { signal } = {}) => storeBlock(model, source, { store, signal, pinned: true }),
  };
}
