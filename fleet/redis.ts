import type { ConnectionOptions } from "bullmq";
import { Redis } from "ioredis";

import { KvspliceError } from "../engine/index.js";

/** Maximum time for the first connection. */
const CONNECT_TIMEOUT_MS = 5000;

/** BullMQ waits for Redis however long it is unreachable. No jobs are lost or done wrongly meanwhile. */
export function connectionTo(url: string): ConnectionOptions {
  return { url, maxRetriesPerRequest: null, connectTimeout: CONNECT_TIMEOUT_MS };
}

/**
 * Fails at once if Redis cannot be reached; BullMQ would wait.
 *
 * @throws KvspliceError `bad_argument` for an invalid Redis URL, `unreachable`
 */
export async function mustReach(url: string): Promise<void> {
  await once(url, (redis) => redis.ping());
}

/** Names of all connections of the Redis server, from any program. */
export async function connectionNames(url: string): Promise<string[]> {
  const list = await once(url, (redis) => redis.client("LIST"));
  return Array.from(String(list).matchAll(/ name=(\S*)/g), ([, name]) => name!);
}

/** Runs one command over a connection that does not retry. */
async function once<T>(url: string, ask: (redis: Redis) => Promise<T>): Promise<T> {
  if (!/^rediss?:\/\//.test(url) || !URL.canParse(url)) {
    throw new KvspliceError("bad_argument", `${url} is not a Redis URL. Give one like redis://host:6379 (rediss:// for TLS).`);
  }
  const redis = new Redis(url, {
    lazyConnect: true,
    retryStrategy: () => null,
    connectTimeout: CONNECT_TIMEOUT_MS,
    maxRetriesPerRequest: 0,
  });
  let why = "";
  redis.on("error", (error: Error) => (why = error.message));
  try {
    await redis.connect();
    return await ask(redis);
  } catch (cause) {
    throw new KvspliceError(
      "unreachable",
      `No Redis answers at ${withoutPassword(url)} (${why || (cause as Error).message}); start one there or give another URL.`,
      { cause },
    );
  } finally {
    redis.disconnect();
  }
}

/** The URL for messages, without its password. */
export function withoutPassword(url: string): string {
  const shown = new URL(url);
  if (shown.password) shown.password = "***";
  return shown.href;
}
