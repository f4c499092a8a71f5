import { expect, test } from "vitest";
import type { Cache } from "../../engine/backend/backend.js";
import { KvCache } from "../../engine/backend/cpu/cache.js";
import { CachePool } from "../../engine/cache-pool.js";

const MOST = 3;
const poolOf = () => new CachePool(() => new KvCache({ layers: [{ kind: "kv", heads: 1, headSize: 16, rotary: undefined }] }, []), MOST);

/** Caches of these sizes, given back in this order. */
function idle(pool: CachePool, ...sizes: number[]): Cache[] {
  const caches = sizes.map((size) => pool.take(size).cache);
  for (const cache of caches) pool.giveBack(cache);
  return caches;
}

/** As many rows as pieces are laid into a cache, and it is given back. */
function laid(pool: CachePool, cache: Cache, ...pieces: string[]): void {
  for (const piece of pieces) {
    (cache as KvCache).append([cache.length]);
    pool.splicedPiece(cache, piece);
  }
  pool.giveBack(cache);
}

test("a cache has room for what it is taken for", () => {
  expect(poolOf().take(100).cache.capacity).toBeGreaterThanOrEqual(100);
});

test("the smallest with the room is taken, so that a large one stays for what needs it", () => {
  const pool = poolOf();
  const [, middle, large] = idle(pool, 10, 100, 1000);
  expect(pool.take(50).cache).toBe(middle);
  expect(pool.take(50).cache).toBe(large);
});

test("without the room in any, the largest grows", () => {
  const pool = poolOf();
  const [, large] = idle(pool, 10, 100);
  expect(pool.take(1000).cache).toBe(large);
  expect(large!.capacity).toBeGreaterThanOrEqual(1000);
});

test("the one that begins with most of the pieces goes before its size, and tells where they end", () => {
  const pool = poolOf();
  const [a, b] = [pool.take(10).cache, pool.take(100).cache];
  laid(pool, a, "system", "first", "second");
  laid(pool, b, "system", "second");
  expect(pool.take(50, ["system", "first", "third"])).toEqual({ cache: a, pieces: [1, 2] });
  expect(a.length).toBe(2);
});

test("what lies behind other pieces is not taken for them", () => {
  const pool = poolOf();
  laid(pool, pool.take(10).cache, "system", "first", "second");
  const { cache, pieces } = pool.take(10, ["first", "second"]);
  expect([cache.length, pieces]).toEqual([0, []]);
});

test("of those that nobody uses, no more than the most are kept", () => {
  const pool = poolOf();
  const caches = idle(pool, 1, 2, 3, 4);
  const taken = caches.map(() => pool.take(1).cache);
  expect(taken.slice(0, MOST)).toEqual(caches.slice(0, MOST));
  expect(caches).not.toContain(taken[MOST]);
});
