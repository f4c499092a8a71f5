import type { Records } from "../chat/index.js";
import type { BlockKey, BlockStore } from "../engine/index.js";

/**
 * The store as answers to clients use it: what they put is counted, so that it is let go of when it is old or too much.
 * Only what was put is counted, and never what the corpus holds.
 */
export function clientStore(store: BlockStore, records: Records, isHeld: (key: BlockKey) => boolean): BlockStore {
  return {
    get: (key) => store.get(key),
    has: (key) => store.has(key),
    async put(key, block, options) {
      await store.put(key, block, options);
      if (options?.pinned !== true && !isHeld(key)) records.keep(key, block.tokens);
    },
    delete: (keys, options) => store.delete(keys, options),
    keys: () => store.keys(),
    close: () => store.close(),
    ...(store.prefetch && { prefetch: (keys) => store.prefetch!(keys) }),
    ...(store.pin && { pin: (keys) => store.pin!(keys) }),
    ...(store.lease && { lease: (key) => store.lease!(key) }),
  };
}
