import { storeBlock, type BlockSource, type BlockStore, type Model } from "../engine/index.js";

export type Encoded = { readonly blocks: number; readonly stored: number; readonly encoded: number; readonly tokens: number; readonly encoded_tokens: number };

export type EncodeOptions = { readonly signal: AbortSignal; readonly onBlock?: (done: Encoded) => void };

/** Encodes those of the blocks that the store does not have. Equal blocks count once. */
export async function encodeMissing(model: Model, store: BlockStore, sources: readonly BlockSource[], { signal, onBlock }: EncodeOptions): Promise<Encoded> {
  const byKey = new Map(sources.map((source) => [model.keyOf(source), source]));
  let done: Encoded = { blocks: byKey.size, stored: 0, encoded: 0, tokens: 0, encoded_tokens: 0 };
  for (const source of byKey.values()) {
    const tokens = done.tokens + source.tokens.length;
    if (await storeBlock(model, source, { store, signal })) {
      done = { ...done, encoded: done.encoded + 1, tokens, encoded_tokens: done.encoded_tokens + source.tokens.length };
    } else done = { ...done, stored: done.stored + 1, tokens };
    onBlock?.(done);
  }
  return done;
}
