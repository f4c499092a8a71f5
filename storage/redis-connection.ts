import { createRequire } from "node:module";
import type { Redis } from "ioredis";
import { KvspliceError } from "../plan/index.js";

export type RedisConnectionOptions = {
  readonly url: string;
  /** Called when the server fails, and when it responds again. */
  readonly onTrouble: (message: string) => void;
  /** What happens in the meantime, as a clause; "the store continues without it" if omitted. */
  readonly without?: string;
};

/** A read that takes longer is abandoned. */
const READ_TIMEOUT_MS = 3000;
const WRITE_TIMEOUT_MS = 30_000;

/** After a failure the server is left alone for a while, so that an answer does not wait for it on every request. */
const FIRST_REST_MS = 500;
const LONGEST_REST_MS = 15_000;

/**
 * A Redis server that may be unavailable. For a while after a failure (0.5 s to 15 s) it is not contacted: reads find nothing
 * and writes are refused at once. Loss and return are reported once each.
 */
export class RedisConnection {
  private readonly client: Redis;
  private readonly opened: Promise<unknown>;
  private restUntil = 0;
  private rest_ms = FIRST_REST_MS;
  private failing = false;
  /** Why there is no connection, while there is none: the commands' own errors mean something only to client developers. */
  private lost: string | undefined;

  constructor(private readonly options: RedisConnectionOptions) {
    // Loaded only if such a server is used: it takes longer than everything else about opening a store.
    const { Redis } = createRequire(import.meta.url)("ioredis") as typeof import("ioredis");
    this.client = new Redis(options.url, {
      lazyConnect: true,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      connectTimeout: READ_TIMEOUT_MS,
      commandTimeout: WRITE_TIMEOUT_MS,
      retryStrategy: (attempt) => Math.min(100 * 2 ** attempt, 2000),
    });
    this.client.on("error", (error: Error) => (this.lost = error.message)); // each command reports it
    this.client.on("ready", () => (this.lost = undefined));
    this.opened = within(READ_TIMEOUT_MS, this.client.connect()).catch(() => undefined);
  }

  /** Without the password. */
  get place(): string {
    return `${this.client.options.host}:${this.client.options.port}`;
  }

  /** Undefined if the server fails, or failed a moment ago. */
  async reading<T>(ask: (client: Redis) => Promise<T>): Promise<T | undefined> {
    if (Date.now() < this.restUntil) return undefined;
    try {
      return await this.attempt(READ_TIMEOUT_MS, ask);
    } catch {
      return undefined;
    }
  }

  /** @throws KvspliceError `bad_store` if the server fails */
  async writing<T>(ask: (client: Redis) => Promise<T>): Promise<T> {
    try {
      return await this.attempt(WRITE_TIMEOUT_MS, ask);
    } catch (cause) {
      throw new KvspliceError(
        "bad_store",
        `Redis at ${this.place} does not accept writes (${this.reasonOf(cause as Error)}); check that it is running and has room.`,
        { cause },
      );
    }
  }

  async close(): Promise<void> {
    await this.opened;
    this.client.disconnect();
  }

  private async attempt<T>(limit_ms: number, ask: (client: Redis) => Promise<T>): Promise<T> {
    await this.opened;
    try {
      const answer = await within(limit_ms, ask(this.client));
      if (this.failing) this.options.onTrouble(`Redis at ${this.place} is available again.`);
      this.failing = false;
      this.restUntil = 0;
      this.rest_ms = FIRST_REST_MS;
      return answer;
    } catch (error) {
      if ((error as Error).name === "ReplyError") throw error; // it does respond; it may have no room
      this.rest();
      if (!this.failing)
        this.options.onTrouble(
          `Redis at ${this.place} fails (${this.reasonOf(error as Error)}); ${this.options.without ?? "the store continues without it"}.`,
        );
      this.failing = true;
      throw error;
    }
  }

  /** Concurrent failures start only one rest. */
  private rest(): void {
    if (Date.now() < this.restUntil) return;
    this.restUntil = Date.now() + this.rest_ms;
    this.rest_ms = Math.min(this.rest_ms * 2, LONGEST_REST_MS);
  }

  /** The server's own words if it responded, the connection's if there is none. */
  private reasonOf(error: Error): string {
    if (error.name === "ReplyError" || error instanceof NoAnswer) return error.message;
    return this.lost ?? "the connection is lost";
  }
}

class NoAnswer extends Error {}

async function within<T>(limit_ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NoAnswer(`no answer within ${limit_ms} ms`)), limit_ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
