import { randomUUID } from "node:crypto";
import type { Block } from "../kv/block.js";
import { encodeSafetensors } from "../kv/safetensors.js";
import { Lifetime } from "../lifetime.js";
import type { StoreConfig } from "./config.js";
import { DiskTier, LEASE_MS } from "./disk.js";
import { DEFAULT_COST_MS_PER_TOKEN } from "./eviction.js";
import { type Held, MemoryTier } from "./memory.js";
import { ObjectTier } from "./objects.js";
import { RedisTier } from "./redis.js";
import { Seal } from "./seal.js";
import type {
  BlockInfo,
  BlockKey,
  DeleteOptions,
  Lease,
  PutOptions,
  StoredTier,
  StoreHooks,
  StoreStats,
  TieredStore,
  TierName,
  TierStats,
} from "./store.js";
import { WriteBehind } from "./write-behind.js";

/** Concurrent reads ahead. */
const PREFETCH_LANES = 4;

/** Reads are counted in memory and recorded in batches: they only guide evictions, so losing some does no harm. */
const SETTLE_MS = 10_000;

/**
 * Opens a store of up to four tiers: memory, disk, Redis, objects in a bucket. A read goes down and fills the tiers above. A
 * put resolves when the block is on disk, and is then copied to the shared tiers; without a disk, it resolves when one of those has it.
 *
 *     const store = openBlockStore({ memory: { budget: 512 * 2 ** 20 }, disk: { path: "my.kv" } });
 *
 * @throws KvspliceError `bad_store` if the disk tier is damaged or cannot be opened. A Redis server that does not respond is
 *   not an error: `onTrouble` is called, and the other tiers go on.
 */
export function openBlockStore(config: StoreConfig, hooks: StoreHooks = {}): TieredStore {
  return new Tiers(config, { onDamage: warnOfDamage, onTrouble: warn, ...hooks });
}

/** Opens a store with only a disk tier. */
export function openDiskStore(path: string, hooks: StoreHooks = {}): TieredStore {
  return openBlockStore({ disk: { path } }, hooks);
}

class Tiers implements TieredStore {
  readonly tiers: readonly StoredTier[];
  private readonly memory: MemoryTier | undefined;
  private readonly disk: DiskTier | undefined;
  private readonly redis: RedisTier | undefined;
  private readonly objects: ObjectTier | undefined;
  private readonly shared: readonly (RedisTier | ObjectTier)[];
  private readonly behind: WriteBehind | undefined;
  private readonly budgets: Readonly<Record<TierName, number | undefined>>;
  private readonly id = randomUUID();
  /** Reads in progress, so that two of the same key become one. */
  private readonly reading = new Map<BlockKey, Promise<Held | undefined>>();
  /** Whether puts outlive the process: they do not with a read-only disk and no Redis. */
  private readonly isDurable: boolean;
  private toldReadOnly = false;
  private readonly leased = new Set<BlockKey>();
  private readonly filling = new Set<Promise<void>>();
  /** Puts into shared tiers that nobody waits for: another one has the block. */
  private readonly trailing = new Set<Promise<void>>();
  private prefetching = Promise.resolve();
  private readonly settling: NodeJS.Timeout;
  private readonly lifetime = new Lifetime("The store was closed. Open it again.");
  private closed: Promise<void> | undefined;
  private readonly hits = { memory: 0, disk: 0, redis: 0, objects: 0 };
  private misses = 0;
  private damaged = 0;

  constructor(
    { memory, disk, redis, objects }: StoreConfig,
    private readonly hooks: Required<StoreHooks>,
  ) {
    const onDamage = (tier: TierName) => (key: BlockKey) => {
      this.damaged++;
      hooks.onDamage(key, tier);
    };
    this.budgets = { memory: memory?.budget, disk: disk?.budget, redis: redis?.budget, objects: undefined };
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
    this.objects =
      objects &&
      new ObjectTier({
        ...objects,
        seal: objects.key === undefined ? undefined : new Seal(objects.key, objects.namespace),
        onDamage: onDamage("objects"),
        onTrouble: hooks.onTrouble,
      });
    this.shared = [this.redis, this.objects].filter((tier) => tier !== undefined);
    this.behind =
      this.disk && this.shared.length > 0 && !this.disk.readOnly ? new WriteBehind(this.disk, this.shared, hooks.onTrouble) : undefined;
    this.tiers = [this.disk, ...this.shared].filter((tier) => tier !== undefined);
    this.isDurable = (this.disk !== undefined && !this.disk.readOnly) || this.shared.length > 0;
    this.settling = setInterval(() => this.disk?.settle(), SETTLE_MS).unref();
  }

  async get(key: BlockKey, onRead?: (tier: TierName | undefined) => void): Promise<Block | undefined> {
    this.lifetime.mustBeOpen();
    const found = this.memory?.get(key) ?? (await this.readOnce(key));
    onRead?.(found?.from);
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
    return (
      (!this.isDurable && this.memory?.has(key)) ||
      this.disk?.has(key) ||
      ((await this.redis?.has(key)) ?? false) ||
      ((await this.objects?.has(key)) ?? false)
    );
  }

  async put(key: BlockKey, block: Block, options: PutOptions = {}): Promise<void> {
    this.lifetime.mustBeOpen();
    this.memory?.set(key, { block, from: "memory" });
    const parts = encodeSafetensors(key, block);
    const info: BlockInfo = {
      key,
      bytes: lengthOf(parts),
      tokens: block.tokens,
      precision: block.precision,
      model: options.model ?? "",
      cost_ms: options.cost_ms ?? block.tokens * DEFAULT_COST_MS_PER_TOKEN,
      pinned: options.pinned ?? false,
      uses: 0,
      used_ms: Date.now(),
    };
    if (this.disk && (!this.disk.readOnly || info.pinned)) await this.disk.put(info, parts, this.shared.length > 0);
    else await this.putShared(info, parts);
    if (this.disk?.readOnly) this.tellReadOnly();
    await this.behind?.add(key);
  }

  pin(keys: readonly BlockKey[]): void {
    this.disk?.pin(keys);
  }

  async delete(keys: readonly BlockKey[], { keepPinned = false, here = false }: DeleteOptions = {}): Promise<void> {
    if (here) await this.behind?.flush(); // blocks on their way to the others arrive first
    const going = keepPinned ? keys.filter((key) => this.disk?.info(key)?.pinned !== true) : keys;
    this.memory?.delete(going);
    this.behind?.forget(going);
    await this.disk?.delete(going);
    if (here) return;
    await this.redis?.delete(going, keepPinned);
    await this.objects?.delete(going);
  }

  async *keys(): AsyncIterable<BlockKey> {
    if (!this.isDurable) for (const key of this.memory?.keys() ?? []) if (!this.disk?.has(key)) yield key;
    if (this.disk) yield* this.disk.keys();
    if (this.redis) for await (const { key } of this.redis.infos()) if (!this.disk?.has(key)) yield key;
    if (this.objects)
      for await (const { key } of this.objects.infos()) if (!this.disk?.has(key) && !(await this.redis?.has(key))) yield key;
  }

  prefetch(keys: readonly BlockKey[]): void {
    if (!this.memory) return; // nowhere to keep them until they are requested
    const { memory } = this;
    const next = keys[Symbol.iterator]();
    const lane = async () => {
      for (const key of next) if (!memory.has(key)) await this.readOnce(key);
    };
    this.prefetching = this.prefetching.then(() =>
      Promise.all(Array.from({ length: PREFETCH_LANES }, lane)).then(
        () => undefined,
        () => undefined,
      ),
    );
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
    const renewing = setInterval(() => void (this.leased.has(key) && this.renewLease(key)), LEASE_MS / 3).unref();
    return {
      release: async () => {
        clearInterval(renewing);
        this.leased.delete(key);
        await this.releaseLease(key);
      },
    };
  }

  async stats(): Promise<StoreStats> {
    const tier = async (name: TierName, held?: number | Promise<number>): Promise<TierStats> => {
      const bytes = await held;
      const budget_bytes = this.budgets[name];
      return {
        tier: name,
        hits: this.hits[name],
        ...(bytes !== undefined && { bytes }),
        ...(budget_bytes !== undefined && { budget_bytes }),
      };
    };
    const tiers: TierStats[] = [];
    if (this.memory) tiers.push(await tier("memory", this.memory.bytes));
    if (this.disk) tiers.push(await tier("disk", this.disk.bytes()));
    if (this.redis) tiers.push(await tier("redis", this.redis.bytes()));
    if (this.objects) tiers.push(await tier("objects"));
    const { disk } = this;
    const ever = disk && {
      memory: disk.tallied("memory"),
      disk: disk.tallied("disk"),
      redis: disk.tallied("redis"),
      objects: disk.tallied("objects"),
      misses: disk.tallied("misses"),
    };
    return { tiers, misses: this.misses, pending: this.behind?.pending ?? 0, damaged: this.damaged, ...(ever && { ever }) };
  }

  async flush(): Promise<void> {
    await this.prefetching;
    await Promise.all(this.filling);
    if (this.behind && !(await this.behind.flush()))
      throw new Error(
        `${this.behind.pending} ${this.behind.pending === 1 ? "block waits" : "blocks wait"} on disk for the shared tier, which is failing.`,
      );
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
    await Promise.all(this.trailing);
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
      if (block) this.fillDisk(key, block, () => this.redis!.info(key));
    }
    if (!block && this.objects) {
      const found = await this.objects.get(key);
      block = found?.block;
      from = "objects";
      if (found) {
        this.fillDisk(key, found.block, async () => found.info);
        this.fillRedis(key, found.block, found.info);
      }
    }
    if (!block) return undefined;
    const held: Held = { block, from };
    this.memory?.set(key, held);
    return held;
  }

  /** Also keeps a shared tier's block on this machine, in parallel with the answer that waits for it. */
  private fillDisk(key: BlockKey, block: Block, told: () => Promise<Told | undefined>): void {
    const { disk } = this;
    if (!disk || disk.readOnly) return;
    this.fill("on disk", async () => disk.put(...stored(key, block, await told()), false));
  }

  /** Also keeps the bucket's block where it can be read sooner. */
  private fillRedis(key: BlockKey, block: Block, told: Told): void {
    const { redis } = this;
    if (redis)
      this.fill("in Redis", () => {
        const [info, parts] = stored(key, block, told);
        return redis.put(info, Buffer.concat(parts));
      });
  }

  /** Resolves when one of the shared tiers has the block; the others get it if they can, and report it themselves if they cannot. */
  private async putShared(info: BlockInfo, parts: readonly Uint8Array[]): Promise<void> {
    if (this.shared.length === 0) return;
    const bytes = Buffer.concat(parts);
    const puts = this.shared.map((tier) => tier.put(info, bytes));
    for (const put of puts) {
      const trailing = put.catch(() => undefined).finally(() => this.trailing.delete(trailing));
      this.trailing.add(trailing);
    }
    await Promise.any(puts).catch(({ errors }: AggregateError) => Promise.reject(errors[0]));
  }

  private fill(where: string, put: () => Promise<void>): void {
    const fill = put()
      .catch((error: unknown) => this.hooks.onTrouble(`A block from a shared tier could not be kept ${where}. ${(error as Error).message}`))
      .finally(() => this.filling.delete(fill));
    this.filling.add(fill);
  }

  private tellReadOnly(): void {
    if (this.toldReadOnly) return;
    this.toldReadOnly = true;
    const where =
      this.shared.length > 0
        ? "in the shared tier and in memory"
        : this.memory
          ? "in memory, as long as there is room and this process runs"
          : "nowhere";
    this.hooks.onTrouble(`The store is read-only: new KV is kept ${where}.`);
  }

  /** False if another process has it. A disk that cannot be written to grants it, so that answers continue. */
  private async takeLease(key: BlockKey): Promise<boolean> {
    try {
      if ((await this.disk?.lease(key, this.id)) === false) return false;
    } catch {
      // Full or read-only: at worst, two processes encode one block.
    }
    if (!this.redis || (await this.redis.lease(key, this.id))) return true;
    await this.releaseOnDisk(key);
    return false;
  }

  private async renewLease(key: BlockKey): Promise<void> {
    try {
      await this.disk?.renew(key, this.id);
    } catch {
      // As above.
    }
    await this.redis?.lease(key, this.id);
  }

  private async releaseLease(key: BlockKey): Promise<void> {
    await this.releaseOnDisk(key);
    await this.redis?.release(key, this.id);
  }

  private async releaseOnDisk(key: BlockKey): Promise<void> {
    try {
      await this.disk?.release(key, this.id);
    } catch {
      // It expires by itself.
    }
  }
}

/** What a shared tier reports about a block besides its KV. */
type Told = Pick<BlockInfo, "model" | "cost_ms">;

function stored(key: BlockKey, block: Block, told: Told | undefined): [BlockInfo, Uint8Array[]] {
  const parts = encodeSafetensors(key, block);
  const { model = "", cost_ms = block.tokens * DEFAULT_COST_MS_PER_TOKEN } = told ?? {};
  const info = { key, bytes: lengthOf(parts), tokens: block.tokens, precision: block.precision, model, cost_ms };
  return [{ ...info, pinned: false, uses: 1, used_ms: Date.now() }, parts];
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

function warn(message: string): void {
  process.emitWarning(message, { code: "KVSPLICE_STORE" });
}

function warnOfDamage(key: BlockKey, tier: TierName): void {
  process.emitWarning(`Block ${key.slice(0, 12)} (${tier}) does not verify; it will be encoded again.`, { code: "KVSPLICE_DAMAGED_BLOCK" });
}
