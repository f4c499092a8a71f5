import type { Block } from "./kv/block.js";
import type { BlockKey } from "./store/store.js";

type Awaited = { readonly block: Promise<Block | undefined>; readonly settle: (block: Block | undefined) => void };

/**
 * KV that running prompts are computing, by its name. A prompt that needs the same KV waits for it instead of computing it
 * as well. It is listed here until its maker has put it into the store.
 */
export class Underway {
  private readonly awaited = new Map<BlockKey, Awaited>();

  /** What another prompt is computing; undefined if none is. Resolves with undefined if its maker stops before it is done. */
  find(key: BlockKey): Promise<Block | undefined> | undefined {
    return this.awaited.get(key)?.block;
  }

  /** Announces that the caller is computing it. */
  announce(key: BlockKey): void {
    let settle!: Awaited["settle"];
    const block = new Promise<Block | undefined>((resolve) => (settle = resolve));
    this.awaited.set(key, { block, settle });
  }

  made(key: BlockKey, block: Block): void {
    this.awaited.get(key)?.settle(block);
  }

  /** It is in the store, or is no longer being computed. */
  end(key: BlockKey): void {
    this.awaited.get(key)?.settle(undefined);
    this.awaited.delete(key);
  }
}
