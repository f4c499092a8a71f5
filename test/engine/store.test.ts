import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { encodeSafetensors, openBlockStore, openDiskStore, type StoreConfig, type StoreHooks } from "../../engine/index.js";
import { collect } from "../support/engine/golden.js";
import { randomBlock } from "../support/engine/random-block.js";
import { fileOf, flip, placesOf } from "../support/engine/stored-bytes.js";
import { fill, mountSmall } from "../support/small-disk.js";

const KEY = "ab".repeat(32);
const [A, B, C, D] = ["aa", "bb", "cc", "dd"].map((part) => part.repeat(32)) as [string, string, string, string];

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "kvsplice-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** A store that is closed when the test is over. */
function open(config: StoreConfig = { disk: { path: dir } }, hooks: StoreHooks = {}) {
  const store = openBlockStore(config, hooks);
  onTestFinished(() => store.close());
  return store;
}

const bytesOf = (key: string, block: Parameters<typeof encodeSafetensors>[1]) => Buffer.concat(encodeSafetensors(key, block)).length;

describe("the disk tier", () => {
  test("returns a block bit for bit, and nothing for a key that it does not have", async () => {
    const store = open();
    const block = randomBlock(3);
    await store.put(KEY, block);
    expect(await store.get(KEY)).toEqual(block);
    expect(await store.has(KEY)).toBe(true);
    expect(await store.get(A)).toBeUndefined();
    expect(await collect(store.keys())).toEqual([KEY]);
    await store.delete([KEY]);
    expect(await store.has(KEY)).toBe(false);
  });

  test("blocks that are put at the same time each have their own content", async () => {
    const store = open();
    const blocks = new Map(Array.from({ length: 40 }, (_, i) => [`${i}`.padStart(64, "0"), randomBlock(1 + ((7 * i) % 40))]));
    await Promise.all([...blocks].map(([key, block]) => store.put(key, block)));
    for (const [key, block] of blocks) expect(await store.get(key)).toEqual(block);
  });

  test("reports its blocks without reading them", async () => {
    const store = open();
    await store.put(KEY, randomBlock(3), { model: "small", cost_ms: 7, pinned: true });
    const bytes = bytesOf(KEY, randomBlock(3));
    const [disk] = store.tiers;
    expect(await collect(disk!.infos())).toEqual([
      { key: KEY, bytes, tokens: 3, precision: "float32", model: "small", cost_ms: 7, pinned: true, uses: 0, used_ms: expect.any(Number) },
    ]);
    expect(await disk!.bytes()).toBe(bytes);
    expect(await disk!.verify(KEY)).toBe(true);
    expect(await disk!.verify(A)).toBeUndefined();
  });

  test("a block with any byte changed is reported and counts as absent; put again, it is sound", async () => {
    const block = randomBlock(1);
    const length = bytesOf(KEY, block);
    const damaged: string[] = [];
    const store = open({ disk: { path: dir } }, { onDamage: (key, tier) => damaged.push(`${key} ${tier}`) });
    for (let at = 0; at < length; at++) {
      await store.put(KEY, block);
      for (const place of placesOf(dir, KEY)) await flip(fileOf(dir), place + at, 1 << (at % 8));
      expect(await store.get(KEY), `byte ${at}`).toBeUndefined();
      expect(await store.has(KEY)).toBe(false);
    }
    expect(damaged).toEqual(Array(length).fill(`${KEY} disk`));
    await store.put(KEY, block);
    expect(await store.get(KEY)).toEqual(block);
  });

  test("a block under another's key does not verify", async () => {
    const { DiskTier } = await import("../../engine/store/disk.js");
    const told: string[] = [];
    const tier = DiskTier.open({ path: dir, onDamage: (key) => told.push(key) });
    const file = Buffer.concat(encodeSafetensors(A, randomBlock(2)));
    await tier.put(
      { key: B, bytes: file.length, tokens: 2, precision: "float32", model: "", cost_ms: 1, pinned: false, uses: 0, used_ms: 0 },
      [file],
      false,
    );
    expect(await tier.get(B)).toBeUndefined();
    expect(told).toEqual([B]);
    await tier.close();
  });

  test("a file that is truncated or not LMDB's is refused with advice, and left unchanged", async () => {
    const store = openDiskStore(dir);
    for (let i = 0; i < 20; i++) await store.put(`${i}`.padStart(64, "0"), randomBlock(200));
    await store.close();
    const whole = readFileSync(fileOf(dir));
    for (const length of [1, 100, 4096, 10_000, whole.length >> 1, whole.length - 4096]) {
      writeFileSync(fileOf(dir), whole);
      truncateSync(fileOf(dir), length);
      expect(() => openDiskStore(dir)).toThrow(/damaged: .* Nothing in it was changed/);
      expect(statSync(fileOf(dir)).size).toBe(length);
    }
    writeFileSync(fileOf(dir), whole);
    expect(await collect(open().keys())).toHaveLength(20);
  });

  const small = mountSmall("2m");
  test.skipIf(!small)("a full disk (tmpfs of 2 MiB) is an error that says so, and stored blocks stay", async () => {
    const store = openDiskStore(small!);
    try {
      const block = randomBlock(10);
      await store.put(A, block);
      await expect(store.put(B, randomBlock(40_000))).rejects.toMatchObject({ code: "no_space" });
      expect(await store.get(A)).toEqual(block);
      fill(small!);
      await expect(store.put(C, randomBlock(40_000))).rejects.toMatchObject({ code: "no_space" });
      expect(await collect(store.keys())).toEqual([A]);
      execFileSync("rm", [join(small!, "filler")]);
      await store.put(C, randomBlock(2000));
    } finally {
      await store.close();
      execFileSync("umount", [small!]);
    }
  });

  const lost = mountSmall("4m");
  test.skipIf(!lost)(
    "a store on a read-only mount answers; puts are kept only in memory, which is reported once, and pinned puts are refused",
    async () => {
      onTestFinished(() => void execFileSync("umount", ["-l", lost!]));
      const before = openDiskStore(lost!);
      const block = randomBlock(10);
      await before.put(A, block);
      await before.close();
      execFileSync("mount", ["-o", "remount,ro", lost!]);
      const told: string[] = [];
      const store = openBlockStore({ memory: { budget: 2 ** 20 }, disk: { path: lost! } }, { onTrouble: (message) => told.push(message) });
      expect(await store.get(A)).toEqual(block);
      expect(told).toEqual([]);
      expect(await store.lease!(B)).toBeDefined();
      await store.put(B, block);
      await store.put(C, block);
      expect([await store.has(B), await store.get(B), (await collect(store.keys())).sort()]).toEqual([true, block, [A, B, C]]);
      expect(told).toEqual([expect.stringMatching(/is read-only.* in memory/)]);
      await expect(store.put(D, block, { pinned: true })).rejects.toMatchObject({
        code: "bad_store",
        message: expect.stringMatching(/No permission/),
      });
      await store.close();
      const again = open({ disk: { path: lost! } });
      expect(await collect(again.keys())).toEqual([A]);
    },
  );
});

describe("the disk budget", () => {
  const block = randomBlock(8);
  const bytes = bytesOf(A, block);
  const budget = 3 * bytes;
  const held = async (store: ReturnType<typeof open>) => (await collect(store.keys())).sort();

  test("of blocks with equal cost, the least recently used is evicted", async () => {
    const store = open({ disk: { path: dir, budget } });
    for (const key of [A, B, C]) await store.put(key, block, { cost_ms: 10 });
    await store.put(D, block, { cost_ms: 10 });
    expect(await held(store)).toHaveLength(3);
    expect(await store.has(D)).toBe(true);
    expect(await store.tiers[0]!.bytes()).toBe(budget);
  });

  test("a block that is expensive to encode outlives cheap ones", async () => {
    const store = open({ disk: { path: dir, budget } });
    await store.put(A, block, { cost_ms: 1000 });
    for (const [i, key] of [B, C, D].entries()) await store.put(key, block, { cost_ms: 10 + i });
    expect(await held(store)).toEqual([A, C, D]);
  });

  test("a block that was read outlives one that was not, once reads are recorded", async () => {
    const first = openBlockStore({ disk: { path: dir, budget } });
    for (const key of [A, B, C]) await first.put(key, block, { cost_ms: 10 });
    await first.get(A);
    await first.close();
    const store = open({ disk: { path: dir, budget } });
    await store.put(D, block, { cost_ms: 10 });
    expect(await store.has(A)).toBe(true);
  });

  test("pinned blocks stay; if they use up the budget, a put reports this and evicts nothing", async () => {
    const store = open({ disk: { path: dir, budget } });
    for (const key of [A, B]) await store.put(key, block, { pinned: true });
    await store.put(C, block);
    store.pin!([C]);
    await expect(store.put(D, block)).rejects.toMatchObject({
      code: "no_space",
      message: expect.stringMatching(/pinned blocks .* raise --disk-budget/),
    });
    expect(await held(store)).toEqual([A, B, C]);
    await store.delete([B]);
    await store.put(D, block);
    expect(await held(store)).toEqual([A, C, D]);
  });

  test("a block in use stays intact after eviction from every tier", async () => {
    const store = open({ memory: { budget: 2 * bytes }, disk: { path: dir, budget } });
    const original = randomBlock(8);
    await store.put(A, original, { cost_ms: 1 });
    await store.close();
    const again = open({ memory: { budget: 2 * bytes }, disk: { path: dir, budget } });
    const inUse = await again.get(A);
    for (let i = 0; i < 10; i++) await again.put(`${i}`.padStart(64, "0"), block, { cost_ms: 100 });
    expect(await again.has(A)).toBe(false);
    expect(inUse).toEqual(original);
  });
});

describe("the memory tier", () => {
  test("keeps to its size with the most recently used blocks; the others come from disk", async () => {
    const block = randomBlock(2);
    const store = open({ memory: { budget: 2 * (block.k.byteLength + block.v.byteLength) }, disk: { path: dir } });
    for (const key of [A, B, C]) await store.put(key, block);
    expect(await store.get(C)).toBe(block);
    expect(await store.get(B)).toBe(block);
    expect(await store.get(A)).toEqual(block);
    expect(await store.get(D)).toBeUndefined();
    const { tiers, misses } = await store.stats();
    expect(tiers.map(({ tier, hits }) => [tier, hits])).toEqual([
      ["memory", 2],
      ["disk", 1],
    ]);
    expect(misses).toBe(1);
  });

  test("a block read ahead is counted once, for the tier that had it", async () => {
    const block = randomBlock(2);
    await openDiskStore(dir).put(A, block);
    const store = open({ memory: { budget: 2 ** 20 }, disk: { path: dir } });
    store.prefetch!([A, B]);
    await store.flush();
    expect(await store.get(A)).toEqual(block);
    expect(await store.get(A)).toEqual(block);
    expect((await store.stats()).tiers.map(({ hits }) => hits)).toEqual([1, 1]);
    await store.close();
    expect((await open().stats()).ever).toEqual({ memory: 1, disk: 1, redis: 0, objects: 0, misses: 0 });
  });

  test("alone, it is a store for one process", async () => {
    const store = open({ memory: { budget: 2 ** 20 } });
    const block = randomBlock(2);
    await store.put(A, block);
    expect([await store.has(A), await store.has(B)]).toEqual([true, false]);
    expect(await collect(store.keys())).toEqual([A]);
  });
});

describe("leases", () => {
  test("one holder at a time, in a process and across stores of one folder", async () => {
    const [one, other] = [open(), open()];
    const lease = await one.lease!(A);
    expect(lease).toBeDefined();
    expect(await one.lease!(A)).toBeUndefined();
    expect(await other.lease!(A)).toBeUndefined();
    expect(await other.lease!(B)).toBeDefined();
    await lease!.release();
    expect(await other.lease!(A)).toBeDefined();
  });

  test("a put ends its store's lease, and the release that follows ends no other", async () => {
    const [one, other] = [open(), open()];
    const lease = await one.lease!(A);
    await one.put(A, randomBlock(1));
    expect(await other.lease!(A)).toBeDefined();
    await lease!.release();
    expect(await one.lease!(A)).toBeUndefined();
  });

  test("a renewal that comes late takes no lease that has ended", async () => {
    const { DiskTier } = await import("../../engine/store/disk.js");
    const tier = DiskTier.open({ path: dir, onDamage: () => undefined });
    onTestFinished(() => tier.close());
    const file = Buffer.concat(encodeSafetensors(A, randomBlock(2)));
    const info = {
      key: A,
      bytes: file.length,
      tokens: 2,
      precision: "float32",
      model: "",
      cost_ms: 1,
      pinned: false,
      uses: 0,
      used_ms: 0,
    } as const;
    await tier.lease(A, "one");
    await Promise.all([tier.put(info, [file], false), tier.renew(A, "one")]);
    await tier.release(A, "one");
    expect(await tier.lease(A, "other")).toBe(true);
    await tier.renew(A, "one");
    expect(await tier.lease(A, "one")).toBe(false);
  });

  test("the lease of a dead process is free at once", async () => {
    mkdirSync(dir, { recursive: true });
    const program = `import { openDiskStore } from ${JSON.stringify(new URL("../../engine/index.ts", import.meta.url).href)};
      if (!(await openDiskStore(${JSON.stringify(dir)}).lease(${JSON.stringify(A)}))) process.exit(1);
      process.kill(process.pid, "SIGKILL");`;
    writeFileSync(join(dir, "dies.mts"), program);
    const { spawnSync } = await import("node:child_process");
    const root = fileURLToPath(new URL("../..", import.meta.url));
    const run = spawnSync(process.execPath, ["--import", "tsx", join(dir, "dies.mts")], { cwd: root, encoding: "utf8" });
    expect(run.signal, run.stderr).toBe("SIGKILL");
    expect(existsSync(fileOf(dir))).toBe(true);
    expect(await open().lease!(A)).toBeDefined();
  });
});

test("a closed store refuses every call, and may be closed again", async () => {
  const block = randomBlock(3);
  const store = open({ memory: { budget: 2 ** 20 }, disk: { path: dir } });
  await store.put(KEY, block);
  {
    await using other = open();
    expect(await other.get(KEY)).toEqual(block);
  }
  await store.close();
  await store.close();
  for (const use of [store.get(KEY), store.has(KEY), store.put(A, block)]) await expect(use).rejects.toMatchObject({ code: "closed" });
});
