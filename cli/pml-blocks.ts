import type { Block, BlockSource, BlockStore, Model } from "../engine/index.js";

/** Blocks for one command, without a folder. */
export function storeOfOneRun(): BlockStore {
  const blocks = new Map<string, Block>();
  return {
    get: async (key) => blocks.get(key),
    has: async (key) => blocks.has(key),
    put: async (key, block) => void blocks.set(key, block),
    delete: async (keys) => keys.forEach((key) => blocks.delete(key)),
    async *keys() {
      yield* blocks.keys();
    },
    close: async () => blocks.clear(),
  };
}

export type Encoded = { readonly blocks: number; readonly stored: number; readonly encoded: number; readonly tokens: number; readonly encoded_tokens: number };

export type EncodeOptions = { readonly signal: AbortSignal; readonly onBlock?: (done: Encoded) => void };

/** Encodes those of the blocks that the store does not have. Equal blocks count once. */
export async function encodeMissing(model: Model, store: BlockStore, sources: readonly BlockSource[], { signal, onBlock }: EncodeOptions): Promise<Encoded> {
  const byKey = new Map(sources.map((source) => [model.keyOf(source), source]));
  let done: Encoded = { blocks: byKey.size, stored: 0, encoded: 0, tokens: 0, encoded_tokens: 0 };
  for (const [key, source] of byKey) {
    const tokens = source.tokens.length;
    if (await store.has(key)) done = { ...done, stored: done.stored + 1, tokens: done.tokens + tokens };
    else {
      await store.put(key, await model.encode(source, { signal }));
      done = { ...done, encoded: done.encoded + 1, tokens: done.tokens + tokens, encoded_tokens: done.encoded_tokens + tokens };
    }
    onBlock?.(done);
  }
  return done;
}
