import { expect, test } from "vitest";
import type { Cache } from "../../engine/backend/backend.js";
import { KvCache } from "../../engine/backend/cpu/cache.js";
import { CachePool } from "../../engine/cache-pool.js";

const MOST = 3;
const poolOf = () => new CachePool(() => new KvCache({ layers: [{ kind: "kv", heads: 1, headSize: 16, rotary: undefined }] }, []), MOST);

/** Caches of these sizes, returned in this order. */
async function idle(pool: CachePool, ...sizes: number[]): Promise<Cache[]> {
  const caches = await Promise.all(sizes.map(async (size) => (await pool.take(size)).cache));
  for (const cache of caches) pool.giveBack(cache);
  return caches;
}

/** Adds one row per piece to a cache, and returns the cache. */
function laid(pool: CachePool, cache: Cache, ...pieces: string[]): void {
  for (const piece of pieces) {
    (cache as KvCache).append([cache.length]);
    pool.splicedPiece(cache, piece);
  }
  pool.giveBack(cache);
}

test("a cache has room for the requested tokens", async () => {
  expect((await poolOf().take(100)).cache.capacity).toBeGreaterThanOrEqual(100);
});

test("takes the smallest cache with enough room, so that a large one stays for prompts that need it", async () => {
  const pool = poolOf();
  const [, middle, large] = await idle(pool, 10, 100, 1000);
  expect((await pool.take(50)).cache).toBe(middle);
  expect((await pool.take(50)).cache).toBe(large);
});

test("grows the largest cache if none has enough room", async () => {
  const pool = poolOf();
  const [, large] = await idle(pool, 10, 100);
  expect((await pool.take(1000)).cache).toBe(large);
  expect(large!.capacity).toBeGreaterThanOrEqual(1000);
});

test("prefers the cache that begins with most of the pieces whatever its size, and reports where they end", async () => {
  const pool = poolOf();
  const [a, b] = [(await pool.take(10)).cache, (await pool.take(100)).cache];
  laid(pool, a, "system", "first", "second");
  laid(pool, b, "system", "second");
  expect(await pool.take(50, ["system", "first", "third"])).toEqual({ cache: a, pieces: [1, 2] });
  expect(a.length).toBe(2);
});

test("does not reuse pieces that follow different ones", async () => {
  const pool = poolOf();
  laid(pool, (await pool.take(10)).cache, "system", "first", "second");
  const { cache, pieces } = await pool.take(10, ["first", "second"]);
  expect([cache.length, pieces]).toEqual([0, []]);
});

test("keeps no more unused caches than the limit", async () => {
  const pool = poolOf();
  const caches = await idle(pool, 1, 2, 3, 4);
  const taken: Cache[] = [];
  for (const _ of caches) taken.push((await pool.take(1)).cache);
  expect(taken.slice(0, MOST)).toEqual(caches.slice(0, MOST));
  expect(caches).not.toContain(taken[MOST]);
});
