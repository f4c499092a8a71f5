import { LRUCache } from "lru-cache";
import { blockBytes, type Block } from "../kv/block.js";
import type { BlockKey, BlockStore } from "./store.js";

/** Keeps the blocks used last in memory, at most `maxBytes` of them, in front of another store. */
export function keepInMemory(below: BlockStore, maxBytes: number): BlockStore {
  const blocks = new LRUCache<BlockKey, Block>({ maxSize: maxBytes, sizeCalculation: blockBytes });
  return {
    async get(key) {
      const kept = blocks.get(key);
      if (kept) return kept;
      const block = await below.get(key);
      if (block) blocks.set(key, block);
      return block;
    },
    has: async (key) => blocks.has(key) || (await below.has(key)),
    async put(key, block) {
      await below.put(key, block);
      blocks.set(key, block);
    },
    async delete(keys) {
      for (const key of keys) blocks.delete(key);
      await below.delete(keys);
    },
    keys: () => below.keys(),
    close: () => below.close(),
  };
}
