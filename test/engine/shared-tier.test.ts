import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { fetchBlocks } from "../../engine/fetch-blocks.js";
import { encodeSafetensors, openBlockStore, type StoreConfig, type StoreHooks } from "../../engine/index.js";
import { collect } from "../support/engine/golden.js";
import { numberedEncoder, sourceOf } from "../support/engine/numbered-blocks.js";
import { randomBlock } from "../support/engine/random-block.js";
import { freePort, hasRedis, type RedisServer, startRedis } from "../support/redis-server.js";

const [A, B, C, D] = ["aa", "bb", "cc", "dd"].map((part) => part.repeat(32)) as [string, string, string, string];

describe.skipIf(!hasRedis)("the shared tier, on a separate Redis server", () => {
  let server: RedisServer;
  let start: () => Promise<RedisServer>;
  let client: Redis;
  let prefix: string;
  beforeAll(async () => {
    const [port, dir] = [await freePort(), mkdtempSync(join(tmpdir(), "kvsplice-redis-data-"))];
    // What it has acknowledged survives its end.
    start = () => startRedis(["--dir", dir, "--appendonly", "yes", "--appendfsync", "always"], port);
    server = await start();
    client = new Redis(server.url, { retryStrategy: () => 50 });
    client.on("error", () => undefined);
  });
  afterAll(async () => {
    client.disconnect();
    await server.stop();
  });
  beforeEach(() => {
    prefix = `test-${Math.random()}:`;
  });

  function folder(): string {
    const dir = mkdtempSync(join(tmpdir(), "kvsplice-shared-"));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    return dir;
  }

  function open(tiers: Omit<StoreConfig, "redis"> & { budget?: number }, hooks: StoreHooks = {}) {
    const { budget, ...rest } = tiers;
    const store = openBlockStore(
      { ...rest, redis: { url: server.url, prefix, ...(budget !== undefined && { budget }) } },
      { onTrouble: () => undefined, ...hooks },
    );
    onTestFinished(() => store.close());
    return store;
  }

  test("what one machine puts, another reads, and keeps on its own disk", async () => {
    const here = open({ disk: { path: folder() } });
    const block = randomBlock(20);
    await here.put(A, block, { model: "small", cost_ms: 5 });
    await here.flush();
    const dir = folder();
    const there = open({ disk: { path: dir } });
    expect(await there.has(A)).toBe(true);
    expect(await there.get(A)).toEqual(block);
    await there.flush();
    const alone = openBlockStore({ disk: { path: dir } });
    expect(await alone.get(A)).toEqual(block);
    expect(await collect(alone.tiers.find(({ name }) => name === "disk")!.infos())).toMatchObject([{ key: A, model: "small", cost_ms: 5 }]);
    await alone.close();
    expect((await there.stats()).tiers.map(({ tier, hits }) => [tier, hits])).toEqual([
      ["disk", 0],
      ["redis", 1],
    ]);
  });

  test("without a disk, a block is in Redis when put returns", async () => {
    const store = open({});
    await store.put(A, randomBlock(3), { model: "small", cost_ms: 5 });
    expect(await client.exists(`${prefix}block:${A}`)).toBe(1);
    expect(await collect(store.tiers[0]!.infos())).toMatchObject([{ key: A, tokens: 3, model: "small", cost_ms: 5 }]);
    await store.delete([A]);
    expect([await client.exists(`${prefix}block:${A}`), await store.tiers[0]!.bytes()]).toEqual([0, 0]);
  });

  test("a block with any byte changed is reported, counts as absent, and can be put again", async () => {
    const block = randomBlock(1);
    const bytes = Buffer.concat(encodeSafetensors(A, block));
    const damaged: string[] = [];
    const store = open({}, { onDamage: (key, tier) => damaged.push(`${key} ${tier}`) });
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1 << (at % 8);
      await client.set(`${prefix}block:${A}`, changed);
      expect(await store.get(A), `byte ${at}`).toBeUndefined();
    }
    expect(damaged).toEqual(Array(bytes.length).fill(`${A} redis`));
    await store.put(A, block);
    expect(await store.get(A)).toEqual(block);
  });

  test("a block under another's key does not verify", async () => {
    await client.set(`${prefix}block:${B}`, Buffer.concat(encodeSafetensors(A, randomBlock(2))));
    expect(await open({}, { onDamage: () => undefined }).get(B)).toBeUndefined();
  });

  test("if a key is set, blocks are sealed, and others are rejected: planted ones, those of another namespace or another key", async () => {
    const damaged: string[] = [];
    const sealedStore = (key: string, namespace?: string) => {
      const store = openBlockStore(
        { redis: { url: server.url, prefix, key, ...(namespace !== undefined && { namespace }) } },
        { onDamage: (block) => damaged.push(block) },
      );
      onTestFinished(() => store.close());
      return store;
    };
    const [secret, block, planted] = ["a secret of some length", randomBlock(4), randomBlock(4)];
    const [ours, other] = [sealedStore(secret, "acme"), sealedStore(secret, "other")];
    await ours.put(A, block);
    expect(await sealedStore(secret, "acme").get(A)).toEqual(block);
    expect(await other.get(A)).toBeUndefined();
    const stored = (await client.getBuffer(`${prefix}acme:block:${A}`))!;
    expect(stored.length).toBe(Buffer.concat(encodeSafetensors(A, block)).length + 32);

    // A block with the right form and checksum from someone who can write to the server; and another tenant's, moved here.
    await other.put(B, planted);
    const moved = (await client.getBuffer(`${prefix}other:block:${B}`))!;
    const underB = `${prefix}acme:block:${B}`;
    for (const value of [Buffer.concat(encodeSafetensors(B, planted)), moved, stored, Buffer.alloc(10)]) {
      await client.set(underB, value);
      expect(await ours.get(B)).toBeUndefined();
      expect(await client.exists(underB)).toBe(0);
    }
    expect(damaged).toEqual([B, B, B, B]);
    expect(await sealedStore("another secret of some length", "acme").get(A)).toBeUndefined();
  });

  test("a planted block of another shape is encoded again, and replaced", async () => {
    const store = open({});
    const [source, encoder] = [sourceOf(3), numberedEncoder()];
    const key = encoder.keyOf(source);
    await client.set(`${prefix}block:${key}`, Buffer.concat(encodeSafetensors(key, randomBlock(16))));
    expect(await fetchBlocks(encoder, [source], { store })).toMatchObject({
      encoded: 16,
      warnings: [expect.stringMatching(/does not have the model's shape/)],
    });
    expect(await fetchBlocks(encoder, [source], { store })).toMatchObject({ encoded: 0, warnings: [] });
  });

  test("keeps to its budget: of blocks with equal cost the least recently used is evicted, pinned ones stay", async () => {
    const block = randomBlock(8);
    const bytes = Buffer.concat(encodeSafetensors(A, block)).length;
    const store = open({ budget: 3 * bytes });
    await store.put(A, block, { cost_ms: 10, pinned: true });
    for (const key of [B, C]) await store.put(key, block, { cost_ms: 10 });
    await store.get(B); // noted behind the answer, before what is asked of Redis next
    await store.put(D, block, { cost_ms: 10 });
    expect(await Promise.all([A, B, C, D].map((key) => store.has(key)))).toEqual([true, true, false, true]);
    expect(await store.tiers[0]!.bytes()).toBe(3 * bytes);
    const full = open({ budget: 2 * bytes });
    await expect(full.put("ee".repeat(32), block, { pinned: true })).resolves.toBeUndefined(); // evicts what is not pinned
    await expect(full.put("ff".repeat(32), block)).rejects.toMatchObject({ code: "no_space", message: expect.stringMatching(/pinned/) });
  });

  test("one lease for all machines, which expires or ends with its owner", async () => {
    const [one, other] = [open({}), open({ disk: { path: folder() } })];
    const lease = await one.lease!(A);
    expect(lease).toBeDefined();
    expect(await other.lease!(A)).toBeUndefined();
    expect(await client.pttl(`${prefix}lease:${A}`)).toBeGreaterThan(0);
    await lease!.release();
    expect(await other.lease!(A)).toBeDefined();
  });

  test("if stopped midway, answers continue from disk, puts are kept, and everything arrives after the restart", async () => {
    const told: string[] = [];
    const store = open({ disk: { path: folder() } }, { onTrouble: (message) => told.push(message) });
    const block = randomBlock(10);
    await store.put(A, block);
    await store.flush();
    await server.stop();
    await store.put(B, block);
    await store.put(C, block);
    expect(await store.get(B)).toEqual(block);
    expect(await store.get(D)).toBeUndefined();
    expect(await store.lease!(D)).toBeDefined();
    await expect(store.flush()).rejects.toThrow(/wait on disk/);
    expect(told.join("\n")).toMatch(/Redis at 127.0.0.1:\d+ fails \((?:connect ECONNREFUSED|the connection is lost)/);
    expect(told.join("\n")).not.toMatch(/maxRetriesPerRequest|enableOfflineQueue|writeable/);
    expect((await store.stats()).pending).toBe(2);
    server = await start();
    while ((await store.stats()).pending > 0) await sleep(50);
    expect(await client.exists(`${prefix}block:${B}`, `${prefix}block:${C}`)).toBe(2);
    expect(told.join("\n")).toMatch(/is available again/);
  });

  test("blocks still waiting when the process ends are copied by the next one to open the store", async () => {
    const dir = folder();
    await server.stop();
    const told: string[] = [];
    const first = openBlockStore(
      { disk: { path: dir }, redis: { url: server.url, prefix } },
      { onTrouble: (message) => told.push(message) },
    );
    await first.put(A, randomBlock(10));
    await first.close();
    expect(told.join("\n")).toMatch(/Not in Redis yet: one block\./);
    server = await start();
    const next = open({ disk: { path: dir } });
    await next.flush();
    expect(await client.exists(`${prefix}block:${A}`)).toBe(1);
  });

  test("if it is slow, a put returns once the block is on disk, and the number of waiting blocks is limited", async () => {
    const store = open({ disk: { path: folder() } });
    await store.put(A, randomBlock(1));
    await store.flush();
    const block = randomBlock(10);
    let most = 0;
    const slowing = (async () => {
      for (let i = 0; i < 5; i++) await client.call("CLIENT", "PAUSE", "100", "ALL").then(() => sleep(120));
    })();
    for (let i = 0; i < 200; i++) {
      await store.put(`${i}`.padStart(64, "0"), block);
      most = Math.max(most, (await store.stats()).pending);
    }
    await slowing;
    await store.flush();
    expect(most).toBeLessThanOrEqual(65);
    expect(await client.hlen(`${prefix}infos`)).toBe(201);
  });

  test("a waiting block is not evicted from the disk", async () => {
    const block = randomBlock(8);
    const bytes = Buffer.concat(encodeSafetensors(A, block)).length;
    await server.stop();
    const store = open({ disk: { path: folder(), budget: 2 * bytes } });
    await store.put(A, block);
    await store.put(B, block);
    await expect(store.put(C, block)).rejects.toMatchObject({ code: "no_space" });
    server = await start();
    while ((await store.stats()).pending > 0) await sleep(50);
    await store.put(C, block);
    expect(await store.has(C)).toBe(true);
  });
});
