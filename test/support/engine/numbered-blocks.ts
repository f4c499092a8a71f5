import { createHash } from "node:crypto";
import type { Encoder } from "../../../engine/fetch-blocks.js";
import { allocateBlock, type Block } from "../../../engine/kv/block.js";
import type { BlockSource } from "../../../plan/index.js";
import { likeLayers } from "./plain-kv.js";

/** The source of block number `n`: all its tokens are `n`. */
export const sourceOf = (number: number, tokens = 16): BlockSource => ({ tokens: Array<number>(tokens).fill(number) });

const FORM = { layers: likeLayers(2, 1, 24) };

/** Blocks whose values are their number: about 6 KB for 16 tokens. Every process makes the same. */
export function numberedEncoder(onEncode: (number: number) => Promise<void> | void = () => undefined): Encoder {
  return {
    form: FORM,
    keyOf: (source) => createHash("sha256").update(String(source.tokens[0])).digest("hex"),
    async encode(source) {
      const number = source.tokens[0]!;
      await onEncode(number);
      return numberedBlock(number, source.tokens.length);
    },
  };
}

export function numberedBlock(number: number, tokens = 16): Block {
  const block = allocateBlock(
    FORM.layers.map(({ heads, headSize }) => ({ heads, headSize })),
    tokens,
  );
  block.k.fill(number);
  block.v.fill(-number);
  return block;
}
