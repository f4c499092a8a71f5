import { createHash } from "node:crypto";
import type { Encoder } from "../../engine/fetch.js";
import { allocateBlock, type Block } from "../../engine/kv/block.js";
import type { BlockSource } from "../../plan/index.js";

/** The source of block number `n`: its one token says which. */
export const sourceOf = (number: number): BlockSource => ({ tokens: [number] });

/** Blocks whose values are their number: some 6 KB, or as much as `tokens` make it. Every process makes the same. */
export function numberedEncoder(onEncode: (number: number) => Promise<void> | void = () => undefined, tokens = 16): Encoder {
  return {
    keyOf: (source) => createHash("sha256").update(String(source.tokens[0])).digest("hex"),
    async encode(source) {
      const number = source.tokens[0]!;
      await onEncode(number);
      return numberedBlock(number, tokens);
    },
  };
}

export function numberedBlock(number: number, tokens = 16): Block {
  const block = allocateBlock(Array.from({ length: 2 }, () => ({ heads: 1, headSize: 24 })), tokens);
  block.k.fill(number);
  block.v.fill(-number);
  return block;
}
