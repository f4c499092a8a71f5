import { randomUUID } from "node:crypto";
import type { Block } from "../kv/block.js";
import { Lifetime } from "../lifetime.js";
import { encodeSafetensors } from "../kv/safetensors.js";
import type { StoreConfig } from "./config.js";
import { DiskTier, LEASE_MS } from "./disk.js";
import { DEFAULT_COST_MS_PER_TOKEN } from "./eviction.js";
import { MemoryTier, type Held } from "./memory.js";
import { RedisTier } from "./redis.js";
import type { BlockInfo, BlockKey, Lease, PutOptions, StoredTier, StoreHooks, StoreStats, TierName, TieredStore, TierStats, DeleteOptions } from "./store.js";
import { Seal } from "./seal.js";
import { WriteBehind } from "./write-behind.js";

/** Reads ahead that run at once. */
const PREFETCH_LANES = 4;

/** Reads are counted in memory and written down in batches: they weigh evictions, and nothing is lost with them. */
const SETTLE_MS = 10_000;

/**
 * Opens a store of up to three tiers: memory, disk, Redis. A read goes down and fills upward. A put is on disk when it
 * resolves, and brought to Redis behind; without a disk, it is in Redis when it resolves.
 *
 *     const store = openStore({ memory: { budget: 512 * 2 ** 20 }, disk: { path: "my.kv" } });
 *
 * @throws KvspliceError `bad_store` where the disk tier is damaged or cannot be opened. A Redis server that does not
 *   answer is no error: it is told to `onTrouble`, and the other tiers go on.
 */
export function openStore(config: StoreConfig, hooks: StoreHooks = {}): TieredStore {
  return new Tiers(config, { onDamage: warnOfDamage, onTrouble: warn, ...hooks });
}

/** A disk tier alone. */
export function openDiskStore(path: string, hooks: StoreHooks = {}): TieredStore {
  return openStore({ disk: { path } }, hooks);
}

class Tiers implements TieredStore {
  readonly tiers: readonly StoredTier[];
  private readonly memory: MemoryTier | undefined;
  private readonly disk: DiskTier | undefined;
  private readonly redis: RedisTier | undefined;
  private readonly behind: WriteBehind | undefined;
  private readonly budgets: Readonly<Record<TierName, number | undefined>>;
  private readonly id = randomUUID();
  /** Reads on their way, so that two of one key are one. */
  private readonly reading = new Map<BlockKey, Promise<Held | undefined>>();
  private readonly leased = new Set<BlockKey>();
  private readonly filling = new Set<Promise<void>>();
  private prefetching = Promise.resolve();
  private readonly settling: NodeJS.Timeout;
  private readonly lifetime = new Lifetime("The store was closed. Open it again.");
  private closed: Promise<void> | undefined;
  private readonly hits = { memory: 0, disk: 0, redis: 0 };
  private misses = 0;
  private damaged = 0;

  constructor(
    { memory, disk, redis }: StoreConfig,
    private readonly hooks: Required<StoreHooks>,
  ) {
    const onDamage = (tier: TierName) => (key: BlockKey) => {
      this.damaged++;
      hooks.onDamage(key, tier);
    };
    this.budgets = { memory: memory?.budget, disk: disk?.budget, redis: redis?.budget };
    this.memory = memory && memory.budget > 0 ? new MemoryTier(memory.budget) : undefined;
    this.disk = disk && DiskTier.open({ path: disk.path, budget_bytes: disk.budget, onDamage: onDamage("disk") });
    this.redis =
      redis &&
      new RedisTier({
        url: redis.url,
        prefix: redis.namespace === undefined ? redis.prefix : `${redis.prefix}${redis.namespace}:`,
        budget_bytes: redis.budget,
        seal: redis.key === undefined ? undefined : new Seal(redis.key, redis.namespace),
        onDamage: onDamage("redis"),
        onTrouble: hooks.onTrouble,
      });
    this.behind = this.disk && this.redis && !this.disk.readOnly ? new WriteBehind(this.disk, this.redis, hooks.onTrouble) : undefined;
    this.tiers = [this.disk, this.redis].filter((tier) => tier !== undefined);
    this.settling = setInterval(() => this.disk?.settle(), SETTLE_MS).unref();
  }

  async get(key: BlockKey): Promise<Block | undefined> {
    this.lifetime.mustBeOpen();
    const found = this.memory?.get(key) ?? (await this.readOnce(key));
    if (!found) {
      this.misses++;
      this.disk?.tally("misses");
      return undefined;
    }
    this.hits[found.from]++;
    this.disk?.tally(found.from);
    found.from = "memory";
    return found.block;
  }

  async has(key: BlockKey): Promise<boolean> {
    this.lifetime.mustBeOpen();
    return this.memory !== undefined && this.tiers.length === 0 ? this.memory.has(key) : this.disk?.has(key) || ((await this.redis?.has(key)) ?? false);
  }

  async put(key: BlockKey, block: Block, options: PutOptions = {}): Promise<void> {
    this.lifetime.mustBeOpen();
    this.memory?.set(key, { block, from: "memory" });
    const bytes = Buffer.concat(encodeSafetensors(key, block));
    const info: BlockInfo = {
      key,
      bytes: bytes.length,
      tokens: block.tokens,
      precision: block.precision,
      model: options.model ?? "",
      cost_ms: options.cost_ms ?? block.tokens * DEFAULT_COST_MS_PER_TOKEN,
      pinned: options.pinned ?? false,
      uses: 0,
      used_ms: Date.now(),
    };
    if (this.disk) this.disk.put(info, bytes, this.redis !== undefined);
    else await this.redis?.put(info, bytes);
    await this.behind?.add(key);
  }

  pin(keys: readonly BlockKey[]): void {
    this.disk?.pin(keys);
  }

  async delete(keys: readonly BlockKey[], { keepPinned = false }: DeleteOptions = {}): Promise<void> {
    const going = keepPinned ? keys.filter((key) => this.disk?.info(key)?.pinned !== true) : keys;
    this.memory?.delete(going);
    this.behind?.forget(going);
    await this.disk?.delete(going);
    await this.redis?.delete(going, keepPinned);
  }

  async *keys(): AsyncIterable<BlockKey> {
    if (this.tiers.length === 0) yield* this.memory?.keys() ?? [];
    if (this.disk) yield* this.disk.keys();
    if (this.redis) for await (const { key } of this.redis.infos()) if (!this.disk?.has(key)) yield key;
  }

  prefetch(keys: readonly BlockKey[]): void {
    if (!this.memory) return; // nowhere to keep them until they are asked for
    const { memory } = this;
    const next = keys[Symbol.iterator]();
    const lane = async () => {
      for (const key of next) if (!memory.has(key)) await this.readOnce(key);
    };
    this.prefetching = this.prefetching.then(() => Promise.all(Array.from({ length: PREFETCH_LANES }, lane)).then(() => undefined, () => undefined));
  }

  async lease(key: BlockKey): Promise<Lease | undefined> {
    if (this.leased.has(key)) return undefined;
    this.leased.add(key);
    try {
      if ((await this.takeLease(key)) === false) {
        this.leased.delete(key);
        return undefined;
      }
    } catch (error) {
      this.leased.delete(key);
      throw error;
    }
    const renewing = setInterval(() => void (this.leased.has(key) && this.takeLease(key)), LEASE_MS / 3).unref();
    return {
      release: async () => {
        clearInterval(renewing);
        this.leased.delete(key);
        await this.releaseLease(key);
      },
    };
  }

  async stats(): Promise<StoreStats> {
    const tier = async (name: TierName, bytes: number | Promise<number>): Promise<TierStats> => {
      const budget_bytes = this.budgets[name];
      return { tier: name, hits: this.hits[name], bytes: await bytes, ...(budget_bytes !== undefined && { budget_bytes }) };
    };
    const tiers: TierStats[] = [];
    if (this.memory) tiers.push(await tier("memory", this.memory.bytes));
    if (this.disk) tiers.push(await tier("disk", this.disk.bytes()));
    if (this.redis) tiers.push(await tier("redis", this.redis.bytes()));
    const { disk } = this;
    const ever = disk && { memory: disk.tallied("memory"), disk: disk.tallied("disk"), redis: disk.tallied("redis"), misses: disk.tallied("misses") };
    return { tiers, misses: this.misses, pending: this.behind?.pending ?? 0, damaged: this.damaged, ...(ever && { ever }) };
  }

  async flush(): Promise<void> {
    await this.prefetching;
    await Promise.all(this.filling);
    if (this.behind && !(await this.behind.flush())) throw new Error(`${this.behind.pending} blocks wait on disk for Redis, which fails.`);
  }

  close(): Promise<void> {
    return (this.closed ??= this.end());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async end(): Promise<void> {
    await this.lifetime.close();
    clearInterval(this.settling);
    await this.prefetching;
    await Promise.all([...this.reading.values()].map((read) => read.catch(() => undefined)));
    await Promise.all(this.filling);
    await this.behind?.close();
    await this.redis?.close();
    await this.disk?.close();
  }

  private readOnce(key: BlockKey): Promise<Held | undefined> {
    const running = this.reading.get(key);
    if (running) return running;
    const read = this.read(key).finally(() => this.reading.delete(key));
    this.reading.set(key, read);
    return read;
  }

  private async read(key: BlockKey): Promise<Held | undefined> {
    let block = await this.disk?.get(key);
    let from: TierName = "disk";
    if (!block && this.redis) {
      block = await this.redis.get(key);
      from = "redis";
      if (block && this.disk && !this.disk.readOnly) this.fillDisk(key, block);
    }
    if (!block) return undefined;
    const held: Held = { block, from };
    this.memory?.set(key, held);
    return held;
  }

  /** Keeps what Redis had on this machine too, beside the answer that waits for it. */
  private fillDisk(key: BlockKey, block: Block): void {
    const fill = this.redis!.info(key)
      .then((known) => {
        const bytes = Buffer.concat(encodeSafetensors(key, block));
        const { model = "", cost_ms = block.tokens * DEFAULT_COST_MS_PER_TOKEN } = known ?? {};
        const info = { key, bytes: bytes.length, tokens: block.tokens, precision: block.precision, model, cost_ms };
        this.disk!.put({ ...info, pinned: false, uses: 1, used_ms: Date.now() }, bytes, false);
      })
      .catch((error: unknown) => this.hooks.onTrouble(`A block of Redis could not be kept on disk. ${(error as Error).message}`))
      .finally(() => this.filling.delete(fill));
    this.filling.add(fill);
  }

  /** False where another has it. A disk that cannot be written grants it, so that answers go on. */
  private async takeLease(key: BlockKey): Promise<boolean> {
    try {
      if (this.disk?.lease(key, this.id) === false) return false;
    } catch {
      // Full, or read-only: at worst, two encode one block.
    }
    if (!this.redis || (await this.redis.lease(key, this.id))) return true;
    this.releaseOnDisk(key);
    return false;
  }

  private async releaseLease(key: BlockKey): Promise<void> {
    this.releaseOnDisk(key);
    await this.redis?.release(key, this.id);
  }

  private releaseOnDisk(key: BlockKey): void {
    try {
      this.disk?.release(key, this.id);
    } catch {
      // It ends by itself.
    }
  }
}

function warn(message: string): void {
  process.emitWarning(message, { code: "KVSPLICE_STORE" });
}

function warnOfDamage(key: BlockKey, tier: TierName): void {
  process.emitWarning(`Block ${key.slice(0, 12)} (${tier}) does not verify; it is encoded again.`, { code: "KVSPLICE_DAMAGED_BLOCK" });
}
