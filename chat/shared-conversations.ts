import { timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { RedisConnection } from "../storage/index.js";
import type { Window } from "./window.js";

/** What the model saw after an answer, and the keys under which it is found. */
export type Remembered = {
  /** Identifies the texts up to the answer. */
  readonly key: string;
  /** Identifies the last texts. */
  readonly end: string;
  readonly window: Window;
};

/** A turn's place in its conversation. */
export type TurnOrder = {
  /** From 1, in the order in which any server answered the turns. */
  readonly turn: number;
  /** The first turn answered from the same point: this one is an alternative to it, not its successor. */
  readonly beside?: number;
};

/** Keys under which an exchange may be known. */
export type Lookup = { readonly key: string; readonly own: string; readonly end: string };

/** Which Redis holds the conversations, how many of them, and for how long. */
export type SharedConversationsOptions = {
  readonly url: string;
  /** Prefix of all keys. */
  readonly prefix: string;
  /** Maximum tokens whose KV states all servers together keep for conversations; the least recently used are dropped first. */
  readonly maxTokens: number;
  /** Anything unused for this long is dropped as well. */
  readonly maxAge_ms: number;
  /** Seals everything that is written, and rejects anything read without a valid seal; everything is accepted by default. */
  readonly seal?:
    | {
        /** The seal of bytes under a name. */
        of(name: string, bytes: Uint8Array): Buffer;
      }
    | undefined;
  /** Called when the server fails, and when it responds again. */
  readonly onTrouble: (message: string) => void;
};

/** Texts looked up at a time, newest first. */
const MOST_LOOKUPS = 64;

/** Hex digits of a seal: HMAC-SHA256. */
const SEAL_DIGITS = 64;

const tokens = z.array(z.int().min(0));
const record = z.object({
  end: z.string(),
  exchanges: z.array(z.object({ said: z.string(), segments: z.array(z.object({ key: z.string(), tokens })) })),
  tail: tokens,
});

/** ARGV: prefix, ms, then key, own key and end of each lookup. Returns records up to the first one known by its texts: key, record, ... */
const FIND = `
local p, found = ARGV[1], {}
local function take(key)
  local value = redis.call('GET', p .. 'window:' .. key)
  if not value then return false end
  redis.call('PEXPIRE', p .. 'window:' .. key, ARGV[2])
  found[#found + 1] = key
  found[#found + 1] = value
  return true
end
for i = 3, #ARGV, 3 do
  if take(ARGV[i]) or take(ARGV[i + 1]) then return found end
  for _, key in ipairs(redis.call('LRANGE', p .. 'end:' .. ARGV[i + 2], 0, -1)) do take(key) end
end
return found`;

/**
 * ARGV: prefix, ms, now, key, record, end, conversation or '', key of what the turn continues, keys of segments ...
 * Returns the turn's number, and that of the first turn that continued the same point: compare-and-set on that point.
 */
const REMEMBER = `
local p, ms, key = ARGV[1], ARGV[2], ARGV[4]
redis.call('SET', p .. 'window:' .. key, ARGV[5], 'PX', ms)
local ends = p .. 'end:' .. ARGV[6]
redis.call('LREM', ends, 0, key)
redis.call('LPUSH', ends, key)
redis.call('LTRIM', ends, 0, 3)
redis.call('PEXPIRE', ends, ms)
for i = 9, #ARGV do
  if redis.call('ZSCORE', p .. 'segments', ARGV[i]) then redis.call('ZADD', p .. 'segments', ARGV[3], ARGV[i]) end
end
if ARGV[7] == '' then return end
local turns = p .. 'turns:' .. ARGV[7]
local turn = redis.call('HGET', turns, 'of:' .. key) or redis.call('HINCRBY', turns, 'turn', 1)
redis.call('HSET', turns, 'of:' .. key, turn)
redis.call('HSETNX', turns, 'after:' .. ARGV[8], turn)
redis.call('PEXPIRE', turns, ms)
return {tonumber(turn), tonumber(redis.call('HGET', turns, 'after:' .. ARGV[8]))}`;

/** ARGV: prefix, now, maximum tokens, oldest, then key and tokens of each. Returns the keys that were dropped. */
const KEEP = `
local segments, tokens, gone = ARGV[1] .. 'segments', ARGV[1] .. 'tokens', {}
local total = tonumber(redis.call('HGET', tokens, '') or '0')
for i = 5, #ARGV, 2 do
  if redis.call('ZADD', segments, ARGV[2], ARGV[i]) == 1 then
    redis.call('HSET', tokens, ARGV[i], ARGV[i + 1])
    total = total + ARGV[i + 1]
  end
end
while true do
  local oldest = redis.call('ZRANGE', segments, 0, 0, 'WITHSCORES')
  if #oldest == 0 or (total <= tonumber(ARGV[3]) and tonumber(oldest[2]) >= tonumber(ARGV[4])) then break end
  redis.call('ZREM', segments, oldest[1])
  total = total - tonumber(redis.call('HGET', tokens, oldest[1]) or '0')
  redis.call('HDEL', tokens, oldest[1])
  gone[#gone + 1] = oldest[1]
end
redis.call('HSET', tokens, '', total)
return gone`;

/**
 * What servers jointly know about conversations, on one Redis server: each server's own records are a cache of it. Under the
 * prefix: `window:KEY` is what the model saw after an answer, `end:END` lists the newest with the same end,
 * `turns:CONVERSATION` is the order of its turns, `segments` and `tokens` are the KV states kept for clients. If Redis fails,
 * nothing is found and no order is kept.
 */
export class SharedConversations {
  private readonly connection: RedisConnection;

  constructor(private readonly options: SharedConversationsOptions) {
    const { url, onTrouble } = options;
    this.connection = new RedisConnection({ url, onTrouble, without: "conversations continue from what this server knows" });
  }

  /** What is known about exchanges, newest first, up to the first one known by its texts. Returns the newest first. */
  async find(lookups: readonly Lookup[]): Promise<Remembered[]> {
    const { prefix, maxAge_ms } = this.options;
    const asked = lookups.slice(0, MOST_LOOKUPS).flatMap(({ key, own, end }) => [key, own, end]);
    const found = ((await this.connection.reading((client) => client.eval(FIND, 0, prefix, maxAge_ms, ...asked))) ?? []) as string[];
    const remembered: Remembered[] = [];
    for (let i = 0; i < found.length; i += 2) {
      const known = this.opened(found[i]!, found[i + 1]!);
      if (known) remembered.push(known);
    }
    return remembered;
  }

  /**
   * Remembers an answer for all servers.
   * @param turn its conversation and the key of what it continues; without it no order is kept
   * @returns its place in the order; undefined if none is kept, or the server fails
   */
  async remember(
    { key, end, window }: Remembered,
    turn?: { readonly conversation: string; readonly after: string },
  ): Promise<TurnOrder | undefined> {
    const { prefix, maxAge_ms } = this.options;
    const segments = window.exchanges.flatMap((exchange) => exchange.segments.map((segment) => segment.key));
    const value = this.sealed(key, JSON.stringify({ end, ...window }));
    const told = (await this.connection.reading((client) =>
      client.eval(REMEMBER, 0, prefix, maxAge_ms, Date.now(), key, value, end, turn?.conversation ?? "", turn?.after ?? "", ...segments),
    )) as [number, number] | null | undefined;
    return told ? { turn: told[0], ...(told[1] !== told[0] && { beside: told[1] }) } : undefined;
  }

  /**
   * Counts KV states that were stored for a client.
   * @returns keys of KV states over the limits, which the caller must delete
   */
  async keep(key: string, tokens: number): Promise<readonly string[]> {
    const { prefix, maxTokens, maxAge_ms } = this.options;
    const now = Date.now();
    return ((await this.connection.reading((client) => client.eval(KEEP, 0, prefix, now, maxTokens, now - maxAge_ms, key, tokens))) ??
      []) as string[];
  }

  /** Stores a text under a name, for the same time. */
  async putText(name: string, text: string, ms: number): Promise<void> {
    const value = this.sealed(name, text);
    await this.connection.reading((client) => client.set(`${this.options.prefix}text:${name}`, value, "PX", ms));
  }

  /** The stored text; undefined if there is none, or the server fails. */
  async text(name: string): Promise<string | undefined> {
    const value = await this.connection.reading((client) => client.get(`${this.options.prefix}text:${name}`));
    return value == null ? undefined : this.unsealed(name, value);
  }

  /** Deletes a text that `putText` stored; does nothing if there is none. */
  async deleteText(name: string): Promise<void> {
    await this.connection.reading((client) => client.del(`${this.options.prefix}text:${name}`));
  }

  /** Closes the connection to Redis. */
  close(): Promise<void> {
    return this.connection.close();
  }

  private opened(key: string, value: string): Remembered | undefined {
    const text = this.unsealed(key, value);
    if (text === undefined) return undefined;
    try {
      const { end, ...window } = record.parse(JSON.parse(text));
      return { key, end, window };
    } catch {
      return undefined; // from another version, or not ours
    }
  }

  private sealed(name: string, text: string): string {
    const { seal } = this.options;
    return seal ? seal.of(`chat ${name}`, Buffer.from(text)).toString("hex") + text : text;
  }

  private unsealed(name: string, value: string): string | undefined {
    const { seal } = this.options;
    if (!seal) return value;
    const text = value.slice(SEAL_DIGITS);
    const given = Buffer.from(value.slice(0, SEAL_DIGITS), "hex");
    const own = seal.of(`chat ${name}`, Buffer.from(text));
    return given.length === own.length && timingSafeEqual(given, own) ? text : undefined;
  }
}
