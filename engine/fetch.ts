import type { Block } from "./kv/block.js";
import type { BlockSource } from "./plan.js";
import type { BlockKey, BlockStore } from "./store/store.js";

/** Makes blocks and names them: a model. */
export type Encoder = {
  keyOf(source: BlockSource): BlockKey;
  encode(source: BlockSource, options?: { readonly signal?: AbortSignal }): Promise<Block>;
};

export type Fetched = {
  readonly blocks: ReadonlyMap<BlockSource, Block>;
  /** Tokens of the blocks that the store did not have. */
  readonly encoded: number;
  readonly warnings: readonly string[];
};

/** The KV of a plan's blocks: what the store has is read side by side, what it has not is encoded and put. */
export async function fetchBlocks(
  encoder: Encoder,
  sources: readonly BlockSource[],
  options: { readonly store?: BlockStore; readonly signal?: AbortSignal },
): Promise<Fetched> {
  const { store } = options;
  const keys = new Map(sources.map((source) => [source, encoder.keyOf(source)]));
  const wanted = new Map([...keys].map(([source, key]) => [key, source]));
  const found = await Promise.all([...wanted].map(async ([key]) => [key, await store?.get(key)] as const));
  const byKey = new Map<BlockKey, Block>();
  const warnings: string[] = [];
  let encoded = 0;
  for (const [key, kept] of found) {
    const source = wanted.get(key)!;
    const block = kept ?? (await encoder.encode(source, options));
    byKey.set(key, block);
    if (kept) continue;
    encoded += source.tokens.length;
    await store?.put(key, block).catch((error: unknown) => {
      // The answer does not depend on it: the block is encoded again another time.
      warnings.push(`A block was encoded and could not be stored. ${error instanceof Error ? error.message : String(error)}`);
    });
  }
  return { blocks: new Map([...keys].map(([source, key]) => [source, byKey.get(key)!])), encoded, warnings };
}
