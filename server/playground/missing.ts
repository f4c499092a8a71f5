import { type BlockKey, isBlockPiece, type Plan, storeBlock } from "../../engine/index.js";
import type { Service } from "../service.js";

export type Encoded = { readonly key: BlockKey; readonly tokens: readonly number[] };

/** Encodes those of a plan's blocks that the store lacks, before an answer whose time is to be that of stored blocks. */
export async function encodeMissing({ pieces }: Plan, { model, store }: Service, signal: AbortSignal): Promise<Encoded[]> {
  const blocks = new Map(pieces.filter(isBlockPiece).map(({ block }) => [model.keyOf(block), block]));
  const encoded: Encoded[] = [];
  for (const [key, block] of blocks) {
    if (await storeBlock(model, block, { store, signal })) encoded.push({ key, tokens: block.tokens });
  }
  return encoded;
}
