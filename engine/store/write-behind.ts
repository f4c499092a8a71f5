import { setTimeout as sleep } from "node:timers/promises";
import { decodeSafetensors } from "../kv/safetensors.js";
import type { DiskTier } from "./disk.js";
import type { BlockInfo, BlockKey, TierName } from "./store.js";

/** A tier shared with other machines. */
export type SharedTier = { readonly name: TierName; put(info: BlockInfo, file: Buffer): Promise<void> };

/** Blocks that may wait for a shared tier that works; beyond that, callers wait until there are fewer. */
const MOST_WAITING = 64;

/** Blocks that are sent at the same time. */
const LANES = 4;

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;

/**
 * Copies blocks from the disk tier to the shared ones, to each at its own pace: one that fails does not delay the others. What
 * has to be copied is recorded in the disk tier's journal, in the same transaction that stores the block: a kill loses nothing,
 * and what one process leaves, the next one to open the store copies. The blocks stay on disk in the meantime; only their keys
 * are here.
 */
export class WriteBehind {
  private readonly lines: readonly Line[];

  constructor(disk: DiskTier, shared: readonly SharedTier[], onTrouble: (message: string) => void) {
    const left = disk.pending();
    const onBrought = (keys: readonly BlockKey[]) =>
      disk.acknowledge(keys.filter((key) => !this.lines.some((line) => line.waiting.has(key))));
    this.lines = shared.map((tier) => new Line(disk, tier, left, { onBrought, onTrouble }));
  }

  /** Blocks that some tier does not have yet. */
  get pending(): number {
    return new Set(this.lines.flatMap(({ waiting }) => [...waiting])).size;
  }

  /** Resolves at once while a shared tier fails: the block is safe on the disk, and so is its place in the journal. */
  async add(key: BlockKey): Promise<void> {
    await Promise.all(this.lines.map((line) => line.add(key)));
  }

  forget(keys: readonly BlockKey[]): void {
    for (const { waiting } of this.lines) for (const key of keys) waiting.delete(key);
  }

  /** @returns false if a shared tier fails first */
  async flush(): Promise<boolean> {
    return (await Promise.all(this.lines.map((line) => line.flush()))).every((done) => done);
  }

  /** Waits for what is being sent, as long as the shared tiers accept it. */
  async close(): Promise<void> {
    await Promise.all(this.lines.map((line) => line.close()));
  }
}

/** The blocks waiting for one shared tier. */
class Line {
  readonly waiting: Set<BlockKey>;
  private wake: (() => void) | undefined;
  private failing = false;
  private readonly closing = new AbortController();
  private readonly ended: Promise<void>;
  private readonly place: string;

  constructor(
    private readonly disk: DiskTier,
    private readonly tier: SharedTier,
    left: readonly BlockKey[],
    private readonly on: { onBrought(keys: readonly BlockKey[]): void; onTrouble(message: string): void },
  ) {
    this.place = tier.name === "redis" ? "Redis" : "the bucket";
    this.waiting = new Set(left);
    this.ended = this.run();
  }

  async add(key: BlockKey): Promise<void> {
    this.waiting.add(key);
    this.wake?.();
    while (this.waiting.size > MOST_WAITING && !this.failing) await sleep(5);
  }

  async flush(): Promise<boolean> {
    while (this.waiting.size > 0 && !this.failing) await sleep(5);
    return this.waiting.size === 0;
  }

  async close(): Promise<void> {
    if (!(await this.flush()))
      this.on.onTrouble(
        `Not in ${this.place} yet: ${this.waiting.size === 1 ? "one block" : `${this.waiting.size} blocks`}. They are kept on disk, and copied when the store is next opened.`,
      );
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
        for (const key of keys) this.waiting.delete(key);
        this.on.onBrought(keys);
        pause_ms = FIRST_PAUSE_MS;
        this.failing = false;
      } catch (error) {
        if (!this.failing) this.on.onTrouble(`Blocks wait on disk for ${this.place}: ${(error as Error).message}`);
        this.failing = true;
        await sleep(pause_ms, undefined, { signal }).catch(() => undefined);
        pause_ms = Math.min(2 * pause_ms, LONGEST_PAUSE_MS);
      }
    }
  }

  private async bring(key: BlockKey): Promise<void> {
    const [info, bytes] = [this.disk.info(key), await this.disk.read(key)];
    if (!info || !bytes) return; // deleted in the meantime
    if (decodeSafetensors(key, bytes)) await this.tier.put(info, bytes);
    else this.disk.discard(key);
  }
}
