import { type BlockSource, type BlockStore, type Encoder, storeBlock } from "../engine/index.js";

export type Encoded = {
  readonly blocks: number;
  readonly stored: number;
  readonly encoded: number;
  readonly tokens: number;
  readonly encoded_tokens: number;
};

export type EncodeOptions = {
  readonly signal: AbortSignal;
  /** Pins the blocks, including those already stored, so that clients' blocks do not evict precomputed ones. */
  readonly pinned?: boolean;
  readonly onBlock?: (done: Encoded) => void;
};

/** Encodes the blocks that are missing from the store. Equal blocks count once. */
export async function encodeMissing(
  model: Encoder,
  store: BlockStore,
  sources: readonly BlockSource[],
  { signal, pinned = false, onBlock }: EncodeOptions,
): Promise<Encoded> {
  const byKey = new Map(sources.map((source) => [model.keyOf(source), source]));
  let done: Encoded = { blocks: byKey.size, stored: 0, encoded: 0, tokens: 0, encoded_tokens: 0 };
  for (const source of byKey.values()) {
    const tokens = done.tokens + source.tokens.length;
    if (await storeBlock(model, source, { store, signal, pinned })) {
      done = { ...done, encoded: done.encoded + 1, tokens, encoded_tokens: done.encoded_tokens + source.tokens.length };
    } else done = { ...done, stored: done.stored + 1, tokens };
    onBlock?.(done);
  }
  if (pinned) store.pin?.([...byKey.keys()]);
  return done;
}
