import { KvspliceError } from "../../plan/index.js";
import { RedisConnection } from "../../storage/index.js";
import type { Block } from "../kv/block.js";
import { decodeSafetensors } from "../kv/safetensors.js";
import { worthOf } from "./eviction.js";
import type { Seal } from "./seal.js";
import type { BlockInfo, BlockKey, StoredTier } from "./store.js";

export type RedisOptions = {
  readonly url: string;
  readonly prefix: string;
  readonly budget_bytes?: number | undefined;
  /** Blocks without this seal are treated as damaged. */
  readonly seal?: Seal | undefined;
  readonly onDamage: (key: BlockKey) => void;
  /** Called when the server fails, and when it responds again. */
  readonly onTrouble: (message: string) => void;
};

export const LEASE_MS = 15_000;

/** KEYS infos, order, state. ARGV: prefix of blocks, key, bytes, info, budget or 0, file. Returns 0 if there is no room. */
const PUT = `
local infos, order, state = KEYS[1], KEYS[2], KEYS[3]
local at, key, size, info, budget = ARGV[1], ARGV[2], tonumber(ARGV[3]), cjson.decode(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', at .. key) == 1 then
  if info.pinned then
    redis.call('ZREM', order, key)
    local old = redis.call('HGET', infos, key)
    if old then
      local kept = cjson.decode(old)
      kept.pinned = true
      redis.call('HSET', infos, key, cjson.encode(kept))
    end
  end
  return 1
end
local held = tonumber(redis.call('HGET', state, 'bytes') or '0')
local function drop(victim)
  local old = redis.call('HGET', infos, victim)
  if old then held = held - cjson.decode(old).bytes end
  redis.call('DEL', at .. victim)
  redis.call('HDEL', infos, victim)
  redis.call('ZREM', order, victim)
end
drop(key)
while budget > 0 and held + size > budget do
  local victim = redis.call('ZPOPMIN', order)
  if #victim == 0 then
    redis.call('HSET', state, 'bytes', held)
    return 0
  end
  drop(victim[1])
  redis.call('HSET', state, 'clock', victim[2])
end
local clock = tonumber(redis.call('HGET', state, 'clock') or '0')
redis.call('SET', at .. key, ARGV[6])
redis.call('HSET', infos, key, ARGV[4])
if not info.pinned then redis.call('ZADD', order, clock + info.value, key) end
redis.call('HSET', state, 'bytes', held + size)
return 1`;

/** KEYS infos, order, state. ARGV: key, time. */
const TOUCH = `
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old then return end
local info = cjson.decode(old)
info.uses = info.uses + 1
info.used_ms = tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(info))
if not info.pinned then
  local clock = tonumber(redis.call('HGET', KEYS[3], 'clock') or '0')
  redis.call('ZADD', KEYS[2], clock + (1 + info.uses) * info.value, ARGV[1])
end`;

/** KEYS infos, order, state. ARGV: prefix of blocks, 1 to keep pinned ones, keys ... */
const DELETE = `
for i = 3, #ARGV do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  local info = old and cjson.decode(old)
  if not (info and info.pinned and ARGV[2] == '1') then
    if info then redis.call('HINCRBY', KEYS[3], 'bytes', -info.bytes) end
    redis.call('DEL', ARGV[1] .. ARGV[i])
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end`;

/** KEYS lease. ARGV: owner, ms. Returns 1 if the owner has the lease from now on. */
const LEASE = `
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;
const RELEASE = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

/**
 * Blocks on one Redis server, for many machines. Under the prefix: `block:KEY` the safetensors file, `infos` what is known
 * about each block, `order` their worth (a sorted set without the pinned blocks), `state` the bytes and the clock of the
 * eviction, `lease:KEY` who is encoding it. Scripts use keys that they compute, so Redis Cluster is not supported.
 *
 * If the server fails, reads report the block as absent; writes are rejected.
 */
export class RedisTier implements StoredTier {
  readonly name = "redis";
  private readonly connection: RedisConnection;
  private readonly names: readonly [infos: string, order: string, state: string];

  constructor(private readonly options: RedisOptions) {
    const { url, prefix, onTrouble } = options;
    this.names = [`${prefix}infos`, `${prefix}order`, `${prefix}state`];
    this.connection = new RedisConnection({ url, onTrouble });
  }

  async get(key: BlockKey): Promise<Block | undefined> {
    const stored = await this.stored(key);
    if (!stored) return undefined;
    const block = this.decoded(key, stored);
    if (block) void this.connection.reading((client) => client.eval(TOUCH, 3, ...this.names, key, Date.now()));
    else {
      this.options.onDamage(key);
      await this.delete([key]).catch(() => undefined); // until it can be deleted, it is found damaged and encoded again
    }
    return block;
  }

  async read(key: BlockKey): Promise<Buffer | undefined> {
    const stored = await this.stored(key);
    return stored && this.options.seal ? this.options.seal.opened(key, stored) : stored;
  }

  private decoded(key: BlockKey, stored: Buffer): Block | undefined {
    const { seal } = this.options;
    const bytes = seal ? seal.opened(key, stored) : stored;
    return bytes && decodeSafetensors(key, bytes);
  }

  private stored(key: BlockKey): Promise<Buffer | undefined> {
    return this.connection.reading(async (client) => (await client.getBuffer(this.blockName(key))) ?? undefined);
  }

  async has(key: BlockKey): Promise<boolean> {
    return (await this.connection.reading((client) => client.exists(this.blockName(key)))) === 1;
  }

  /**
   * Resolves when the server has the block.
   * @throws KvspliceError `no_space` if pinned blocks use up the budget, `bad_store` if the server fails
   */
  async put(info: BlockInfo, file: Buffer): Promise<void> {
    const { key, ...rest } = info;
    const { budget_bytes = 0, prefix, seal } = this.options;
    const bytes = seal ? seal.sealed(key, file) : file;
    const kept = JSON.stringify({ ...rest, bytes: bytes.length, value: worthOf(0, { ...info, uses: 0 }) });
    const done = await this.connection.writing((client) =>
      client.eval(PUT, 3, ...this.names, `${prefix}block:`, key, bytes.length, kept, budget_bytes, bytes),
    );
    if (done === 1) return;
    throw new KvspliceError(
      "no_space",
      `The Redis budget of ${budget_bytes} bytes is used up by pinned blocks (those of precomputed documents): raise --redis-budget.`,
    );
  }

  async delete(keys: readonly BlockKey[], keepPinned = false): Promise<void> {
    if (keys.length > 0)
      await this.connection.writing((client) =>
        client.eval(DELETE, 3, ...this.names, `${this.options.prefix}block:`, keepPinned ? 1 : 0, ...keys),
      );
  }

  async verify(key: BlockKey): Promise<boolean | undefined> {
    const stored = await this.stored(key);
    return stored && this.decoded(key, stored) !== undefined;
  }

  async bytes(): Promise<number> {
    return Number((await this.connection.reading((client) => client.hget(this.names[2], "bytes"))) ?? 0);
  }

  /** What is known about a block; undefined if the server does not have it, or fails. */
  async info(key: BlockKey): Promise<BlockInfo | undefined> {
    const found = await this.connection.reading((client) => client.hget(this.names[0], key));
    return found ? infoOf(key, found) : undefined;
  }

  /** @throws KvspliceError `bad_store` if the server fails */
  async *infos(): AsyncIterable<BlockInfo> {
    let cursor = "0";
    do {
      const [next, found] = await this.connection.writing((client) => client.hscan(this.names[0], cursor, "COUNT", 1000));
      cursor = next;
      for (let i = 0; i < found.length; i += 2) yield infoOf(found[i]!, found[i + 1]!);
    } while (cursor !== "0");
  }

  /** Takes or renews the lease of a key; granted if the server fails, so that work continues. */
  async lease(key: BlockKey, owner: string): Promise<boolean> {
    return (await this.connection.reading((client) => client.eval(LEASE, 1, this.leaseName(key), owner, LEASE_MS))) !== 0;
  }

  async release(key: BlockKey, owner: string): Promise<void> {
    await this.connection.reading((client) => client.eval(RELEASE, 1, this.leaseName(key), owner));
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  private blockName(key: BlockKey): string {
    return `${this.options.prefix}block:${key}`;
  }

  private leaseName(key: BlockKey): string {
    return `${this.options.prefix}lease:${key}`;
  }
}

function infoOf(key: BlockKey, json: string): BlockInfo {
  const { value: _, ...info } = JSON.parse(json) as Omit<BlockInfo, "key"> & { value: number };
  return { key, ...info };
}
