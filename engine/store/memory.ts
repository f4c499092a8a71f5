import { LRUCache } from "lru-cache";
import { blockBytes, type Block } from "../kv/block.js";
import type { BlockKey, TierName } from "./store.js";

/** A block in memory, and where it was found; "memory" once it was asked for. */
export type Held = { readonly block: Block; from: TierName };

/**
 * The blocks used last in this process. What it evicts is only let go of: an answer that holds the block goes on with
 * it. Least recently used, without weights: a block that is missed here costs a read, which is as long as the block.
 */
export class MemoryTier {
  private readonly blocks: LRUCache<BlockKey, Held>;

  constructor(budget_bytes: number) {
    this.blocks = new LRUCache({ maxSize: budget_bytes, sizeCalculation: ({ block }) => Math.max(1, blockBytes(block)) });
  }

  get bytes(): number {
    return this.blocks.calculatedSize;
  }

  get(key: BlockKey): Held | undefined {
    return this.blocks.get(key);
  }

  has(key: BlockKey): boolean {
    return this.blocks.has(key);
  }

  set(key: BlockKey, held: Held): void {
    this.blocks.set(key, held);
  }

  delete(keys: readonly BlockKey[]): void {
    for (const key of keys) this.blocks.delete(key);
  }

  keys(): Iterable<BlockKey> {
    return this.blocks.keys();
  }
}
