import type { ConversationRecords, SharedConversations } from "../chat/index.js";
import type { BlockKey, BlockStore } from "../engine/index.js";

export type ClientStoreOptions = {
  readonly records: ConversationRecords;
  readonly shared?: SharedConversations | undefined;
  /** Whether the corpus contains a block. */
  readonly isHeld: (key: BlockKey) => boolean;
};

/**
 * The store for answers to clients. Blocks that answers put are counted, on this server and among servers that share, so
 * that they are removed when they are old or too many. Blocks of the corpus are never counted.
 */
export function clientStore(store: BlockStore, { records, shared, isHeld }: ClientStoreOptions): BlockStore {
  return {
    get: (key, onRead) => store.get(key, onRead),
    has: (key) => store.has(key),
    async put(key, block, options) {
      await store.put(key, block, options);
      if (options?.pinned === true || isHeld(key)) return;
      records.keep(key, block.tokens);
      const gone = (await shared?.keep(key, block.tokens)) ?? [];
      if (gone.length > 0) await store.delete(gone, { keepPinned: true }).catch(() => undefined); // the store reports the problem itself
    },
    delete: (keys, options) => store.delete(keys, options),
    keys: () => store.keys(),
    close: () => store.close(),
    ...(store.prefetch && { prefetch: (keys) => store.prefetch!(keys) }),
    ...(store.pin && { pin: (keys) => store.pin!(keys) }),
    ...(store.lease && { lease: (key) => store.lease!(key) }),
  };
}
