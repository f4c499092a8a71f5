import { type BlockKey, isBlockPiece, type Plan, storeBlock } from "../../engine/index.js";
import type { Service } from "../service.js";

export type Encoded = { readonly key: BlockKey; readonly tokens: readonly number[] };

/** Encodes the missing blocks of a plan first, so that the time of the answer is that of stored blocks. */
export async function encodeMissing({ pieces }: Plan, { model, store }: Service, signal: AbortSignal): Promise<Encoded[]> {
  const blocks = new Map(pieces.filter(isBlockPiece).map(({ block }) => [model.keyOf(block), block]));
  const encoded: Encoded[] = [];
  for (const [key, block] of blocks) {
    if (await storeBlock(model, block, { store, signal })) encoded.push({ key, tokens: block.tokens });
  }
  return encoded;
}
