import { setTimeout as sleep } from "node:timers/promises";
import type { DiskTier } from "./disk.js";
import { decodeSafetensors } from "../kv/safetensors.js";
import type { RedisTier } from "./redis.js";
import type { BlockKey } from "./store.js";

/** Blocks that may wait for a shared tier that works; who puts more waits until there are fewer. */
const MOST_WAITING = 64;

/** Blocks that are on their way at once. */
const LANES = 4;

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;

/**
 * Brings blocks from the disk tier to the shared one. What is to be brought is written in the disk tier's journal, in
 * the transaction that keeps the block: so nothing is lost by a kill, and what one process leaves, the next one that
 * opens the store brings. Blocks stay on the disk meanwhile; the queue here holds keys.
 */
export class WriteBehind {
  private readonly waiting: Set<BlockKey>;
  private wake: (() => void) | undefined;
  private failing = false;
  private readonly closing = new AbortController();
  private readonly ended: Promise<void>;

  constructor(
    private readonly disk: DiskTier,
    private readonly redis: RedisTier,
    private readonly onTrouble: (message: string) => void,
  ) {
    this.waiting = new Set(disk.pending());
    this.ended = this.run();
  }

  get pending(): number {
    return this.waiting.size;
  }

  /** Resolves at once while the shared tier fails: the block is safe on the disk, and its place in the journal too. */
  async add(key: BlockKey): Promise<void> {
    this.waiting.add(key);
    this.wake?.();
    while (this.waiting.size > MOST_WAITING && !this.failing) await sleep(5);
  }

  forget(keys: readonly BlockKey[]): void {
    for (const key of keys) this.waiting.delete(key);
  }

  /** @returns false where the shared tier fails first */
  async flush(): Promise<boolean> {
    while (this.waiting.size > 0 && !this.failing) await sleep(5);
    return this.waiting.size === 0;
  }

  /** Waits for what is on its way, as long as the shared tier takes it. */
  async close(): Promise<void> {
    const done = await this.flush();
    if (!done) this.onTrouble(`${this.waiting.size} blocks are not in Redis yet; they are kept on disk, and brought when the store is next opened.`);
    this.closing.abort();
    this.wake?.();
    await this.ended;
  }

  private async run(): Promise<void> {
    const { signal } = this.closing;
    let pause_ms = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const keys = [...this.waiting].slice(0, LANES);
      if (keys.length === 0) {
        await new Promise<void>((resolve) => (this.wake = resolve));
        continue;
      }
      try {
        await Promise.all(keys.map((key) => this.bring(key)));
        this.disk.acknowledge(keys);
        this.forget(keys);
        pause_ms = FIRST_PAUSE_MS;
        this.failing = false;
      } catch (error) {
        if (!this.failing) this.onTrouble(`Blocks wait on disk for Redis: ${(error as Error).message}`);
        this.failing = true;
        await sleep(pause_ms, undefined, { signal }).catch(() => undefined);
        pause_ms = Math.min(2 * pause_ms, LONGEST_PAUSE_MS);
      }
    }
  }

  private async bring(key: BlockKey): Promise<void> {
    const [info, bytes] = [this.disk.info(key), await this.disk.read(key)];
    if (!info || !bytes) return; // deleted meanwhile
    if (decodeSafetensors(key, bytes)) await this.redis.put(info, bytes);
    else this.disk.discard(key);
  }
}
