import type { Block } from "../kv/block.js";

/** Names a block: a hash of the model, the block's tokens and offsets, and how its KV is kept. */
export type BlockKey = string;

/** Where blocks live. A block is immutable: putting a key again is not an error and changes nothing. */
export interface BlockStore {
  /** The block, or undefined where it is absent or does not verify. */
  get(key: BlockKey): Promise<Block | undefined>;
  /** Whether the key is stored; the block's bytes are not read. */
  has(key: BlockKey): Promise<boolean>;
  /** Durable when the promise resolves. */
  put(key: BlockKey, block: Block): Promise<void>;
  delete(keys: readonly BlockKey[]): Promise<void>;
  keys(): AsyncIterable<BlockKey>;
  close(): Promise<void>;
}
