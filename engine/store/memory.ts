import { LRUCache } from "lru-cache";
import { type Block, blockBytes } from "../kv/block.js";
import type { BlockKey, TierName } from "./store.js";

/** A block in memory, and where it was found; "memory" once it has been requested. */
export type Held = { readonly block: Block; from: TierName };

/**
 * The blocks used most recently in this process. Eviction only drops the reference: an answer that uses the block keeps it.
 * Least recently used, without weights: a block that is missed here costs a read, whose time is proportional to its size.
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
