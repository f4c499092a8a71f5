import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { type BlockStore, encodeSafetensors, openBlockStore, type Plan, type StoreConfig, type StoreHooks } from "../../engine/index.js";
import { randomBlock } from "../support/engine/random-block.js";
import { BUCKET, hasMoto, startMoto } from "../support/moto-server.js";
import { hasRedis, startRedis } from "../support/redis-server.js";
import { wordyModel } from "../support/server/fake-serving.js";

const [A, B] = ["aa", "bb"].map((part) => part.repeat(32)) as [string, string];
const SECRET = "0123456789abcdef0123";

beforeEach(() => {
  vi.stubEnv("AWS_ACCESS_KEY_ID", "test");
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", "test");
});
afterEach(() => vi.unstubAllEnvs());

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
}

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "kvsplice-objects-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function open(
  endpoint: string,
  config: Partial<StoreConfig> & { readonly url?: string; readonly key?: string } = {},
  hooks: StoreHooks = {},
) {
  const { url = `s3://${BUCKET}/of/${Math.random()}`, key, ...tiers } = config;
  const store = openBlockStore(
    { ...tiers, objects: { url, endpoint, ...(key !== undefined && { key }) } },
    { onTrouble: () => undefined, ...hooks },
  );
  onTestFinished(() => store.close());
  return store;
}

describe.skipIf(!hasMoto)("a bucket as a tier, on moto's server (skipped if moto_server is not installed)", () => {
  let s3: Awaited<ReturnType<typeof startMoto>>;
  beforeAll(async () => {
    s3 = await startMoto();
  });
  afterAll(() => s3.stop());

  test("has what another machine put, keeps it on this machine's disk, and deletes it for all", async () => {
    const url = `s3://${BUCKET}/shared`;
    const here = open(s3.url, { url, disk: { path: folder() } });
    const block = randomBlock(20);
    await here.put(A, block, { model: "small", cost_ms: 5 });
    await here.flush();
    const dir = folder();
    const there = open(s3.url, { url, disk: { path: dir } });
    expect(await there.has(A)).toBe(true);
    expect(await there.get(A)).toEqual(block);
    expect((await there.stats()).tiers.map(({ tier, hits, bytes }) => [tier, hits, bytes === undefined])).toEqual([
      ["disk", 0, false],
      ["objects", 1, true],
    ]);
    await there.flush();
    const [info] = await all(there.tiers[0]!.infos());
    expect(info).toMatchObject({ key: A, model: "small", cost_ms: 5, tokens: 20 });
    const alone = openBlockStore({ disk: { path: dir } });
    expect(await alone.get(A)).toEqual(block);
    await alone.close();
    expect(await all(here.keys())).toEqual([A]);
    await there.delete([A]);
    expect(await open(s3.url, { url }).has(A)).toBe(false);
  });

  test("accepts a put only if there is no object yet, and lists its blocks with their sizes", async () => {
    const url = `s3://${BUCKET}/listed`;
    const store = open(s3.url, { url });
    const block = randomBlock(3);
    for (let i = 0; i < 3; i++) await Promise.all([store.put(A, block), store.put(B, block)]);
    const [tier] = store.tiers;
    const size = Buffer.concat(encodeSafetensors(A, block)).length;
    expect((await all(tier!.infos())).map(({ key, bytes }) => [key, bytes])).toEqual([
      [A, size],
      [B, size],
    ]);
    expect(await tier!.bytes()).toBe(2 * size);
    expect([await tier!.verify(A), await tier!.verify("cc".repeat(32))]).toEqual([true, undefined]);
  });

  test("rejects damaged or unsealed blocks, and has them put again", async () => {
    const url = `s3://${BUCKET}/sealed`;
    const damaged: string[] = [];
    await open(s3.url, { url }).put(A, randomBlock(4));
    const store = open(s3.url, { url, key: SECRET }, { onDamage: (key, tier) => damaged.push(`${tier} ${key}`) });
    expect(await store.get(A)).toBeUndefined();
    expect(damaged).toEqual([`objects ${A}`]);
    const block = randomBlock(4);
    await store.put(A, block);
    expect(await open(s3.url, { url, key: SECRET }).get(A)).toEqual(block);
  });

  test.skipIf(!hasRedis)("comes after Redis, which receives what the bucket had", async () => {
    const redis = await startRedis();
    const url = `s3://${BUCKET}/behind`;
    const block = randomBlock(6);
    await open(s3.url, { url }).put(A, block);
    const both = open(s3.url, { url, redis: { url: redis.url, prefix: "test:" } });
    expect(await both.get(A)).toEqual(block);
    await both.flush();
    const alone = openBlockStore({ redis: { url: redis.url, prefix: "test:" } });
    expect(await alone.get(A)).toEqual(block);
    await alone.close();
    await redis.stop();
  });
});

describe("an endpoint that", () => {
  async function serve(listener: RequestListener): Promise<string> {
    const server = createServer(listener).listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  const block = randomBlock(5);
  const file = Buffer.concat(encodeSafetensors(A, block));

  test("fails now and then is retried", async () => {
    let asked = 0;
    const endpoint = await serve((_, response) =>
      ++asked % 3 === 0 ? response.end(file) : response.writeHead(asked % 3 === 1 ? 503 : 429).end(),
    );
    expect(await open(endpoint).get(A)).toEqual(block);
    expect(asked).toBe(3);
  });

  test("refuses everything is reported once and left alone for a while, and blocks wait on disk for it", async () => {
    const told: string[] = [];
    let asked = 0;
    const endpoint = await serve((request, response) => void request.resume().on("end", () => (asked++, response.writeHead(403).end())));
    const store = open(endpoint, { disk: { path: folder() } }, { onTrouble: (message) => told.push(message) });
    expect(await store.get(A)).toBeUndefined();
    expect(await store.get(B)).toBeUndefined();
    expect(asked).toBe(1); // B was not requested
    await store.put(A, block);
    expect(await store.get(A)).toEqual(block);
    await expect(store.flush()).rejects.toThrow("1 block waits on disk for the shared tier, which is failing.");
    expect(told.filter((message) => message.includes("status 403"))).not.toEqual([]);
    await store.close();
    expect(told.at(-1)).toMatch(/^Not in the bucket yet: one block\. They are kept on disk/);
  });

  test("is unreachable, or breaks off within a block, counts as empty", async () => {
    expect(await open("http://127.0.0.1:1").get(A)).toBeUndefined();
    const endpoint = await serve(
      (_, response) =>
        void response.writeHead(200, { "content-length": file.length }).write(file.subarray(0, 40), () => response.destroy()),
    );
    expect(await open(endpoint).get(A)).toBeUndefined();
  });

  test("returns wrong content is not believed: another block, half a block, a login page", async () => {
    const lies = [Buffer.concat(encodeSafetensors(B, block)), file.subarray(0, -7), Buffer.from("<html>Log in</html>"), Buffer.alloc(0)];
    const damaged: string[] = [];
    for (const lie of lies) {
      const endpoint = await serve((_, response) => void response.end(lie));
      expect(await open(endpoint, {}, { onDamage: (key) => damaged.push(key) }).get(A)).toBeUndefined();
    }
    expect(damaged).toEqual([A, A, A, A]);
  });

  /** Sends these pieces of a block's file with pauses, then nothing more, and keeps the connection open. */
  async function serveStalling(pieces: readonly Buffer[] = [], pause_ms = 0) {
    const asked: string[] = [];
    const endpoint = await serve(async (request, response) => {
      asked.push(request.method!);
      if (pieces.length > 0) response.writeHead(200, { "content-length": file.length });
      for (const [i, piece] of pieces.entries()) {
        if (i > 0) await sleep(pause_ms);
        response.write(piece);
      }
    });
    return { endpoint, asked };
  }
  const half = file.length >> 1;

  test.each([
    ["accepts and never answers", []],
    ["answers headers and half of a block, and stops", [file.subarray(0, half)]],
  ])("%s is abandoned after 2 s without a byte and not retried, and nothing from it is kept", async (_, pieces) => {
    const { endpoint, asked } = await serveStalling(pieces);
    const told: string[] = [];
    const damaged: string[] = [];
    const hooks: StoreHooks = { onTrouble: (message) => told.push(message), onDamage: (key) => damaged.push(key) };
    const store = open(endpoint, { memory: { budget: 2 ** 20 }, disk: { path: folder() } }, hooks);
    expect(await Promise.all([store.get(A), store.get(B)])).toEqual([undefined, undefined]);
    expect(asked).toEqual(["GET", "GET"]);
    expect(told).toEqual([expect.stringMatching(/^s3:.* fails \(no byte for 2 s\); the store continues without it\.$/)]);
    expect(await store.get(A)).toBeUndefined(); // at once, because the server is left alone
    expect(asked).toHaveLength(2);
    expect(await all(store.tiers[0]!.infos())).toEqual([]);
    expect(damaged).toEqual([]);
  });

  test("sends slowly, one piece every 0.8 s, is waited for", async () => {
    const pieces = [0, 1, 2, 3].map((i) => file.subarray((i * file.length) / 4, ((i + 1) * file.length) / 4));
    const { endpoint } = await serveStalling(pieces, 800);
    expect(await open(endpoint).get(A)).toEqual(block);
  });

  test("stalls leads to a question's documents being encoded here, with the same answer, and being found the next time", async () => {
    const { endpoint } = await serveStalling();
    const { model } = await wordyModel();
    const document = { tokens: model.tokenizer.encode("The lamp was lit in October. Its keeper kept a diary of every ship.") };
    const question = model.tokenizer.encode("Who kept the diary?");
    const plan: Plan = {
      pieces: [
        { block: document, at: 0 },
        { tokens: question, at: document.tokens.length },
      ],
    };
    const store = open(endpoint, { memory: { budget: 2 ** 26 } });
    const ask = async (from?: BlockStore) => {
      const answer = model.generate(plan, { maxNewTokens: 4, ...(from && { store: from }) });
      return { text: await answer.text, encoded: (await answer.stats).encoded_tokens };
    };
    const alone = await ask();
    expect(await ask(store)).toEqual({ text: alone.text, encoded: document.tokens.length });
    expect(await ask(store)).toEqual({ text: alone.text, encoded: 0 });
    await model.close();
  });

  test("stalled a moment ago is not written to: a store without a disk reports this at once", async () => {
    const { endpoint, asked } = await serveStalling();
    const store = open(endpoint);
    expect(await store.get(A)).toBeUndefined();
    await expect(store.put(A, block)).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringContaining("not contacted for now"),
    });
    expect(asked).toEqual(["GET"]);
  });

  test.skipIf(!hasRedis)("refuses does not keep blocks from Redis, and gets them all once it accepts them again", async () => {
    const redis = await startRedis();
    let refuses = true;
    const held = new Set<string>();
    const endpoint = await serve((request, response) => {
      request.resume().on("end", () => {
        if (!refuses && request.method === "PUT") held.add(request.url!.split("/").at(-1)!);
        response.writeHead(refuses ? 403 : 200).end();
      });
    });
    const store = open(endpoint, { disk: { path: folder() }, redis: { url: redis.url, prefix: "test:" } });
    const keys = Array.from({ length: 12 }, (_, i) => i.toString(16).padStart(64, "0"));
    for (const key of keys) await store.put(key, randomBlock(1));
    await expect(store.flush()).rejects.toThrow("12 blocks wait on disk for the shared tier, which is failing.");
    const other = openBlockStore({ redis: { url: redis.url, prefix: "test:" } });
    expect(await Promise.all(keys.map((key) => other.has(key)))).toEqual(keys.map(() => true));
    refuses = false;
    await expect.poll(async () => (await store.stats()).pending).toBe(0);
    expect(held).toEqual(new Set(keys));
    await store.close();
    await other.close();
    await redis.stop();
  });

  test.skipIf(!hasRedis).each([
    ["stalls", undefined],
    ["refuses", 403],
  ])("%s does not hold up a store without a disk: a block is put when Redis has it", async (_, status) => {
    const redis = await startRedis();
    onTestFinished(async () => {
      await store.close(); // after the endpoint has hung up
      await redis.stop();
    });
    const endpoint = await serve((request, response) => void request.resume().on("end", () => status && response.writeHead(status).end()));
    const tier = { redis: { url: redis.url, prefix: "test:" } };
    const store = openBlockStore({ ...tier, objects: { url: `s3://${BUCKET}/of`, endpoint } }, { onTrouble: () => undefined });
    await store.put(A, block);
    await store.flush();
    const other = openBlockStore(tier);
    expect(await other.get(A)).toEqual(block);
    await other.close();
  });

  test("does not support conditions is written to without them", async () => {
    const conditions: unknown[] = [];
    const endpoint = await serve(
      (request, response) =>
        void request
          .resume()
          .on(
            "end",
            () => (
              conditions.push(request.headers["if-none-match"]), response.writeHead(request.headers["if-none-match"] ? 501 : 200).end()
            ),
          ),
    );
    const store = open(endpoint);
    await store.put(A, block);
    await store.put(B, block);
    expect(conditions).toEqual(["*", undefined, undefined]);
  });
});

test("a bucket needs credentials", () => {
  vi.stubEnv("AWS_ACCESS_KEY_ID", "");
  expect(() => openBlockStore({ objects: { url: "s3://blocks" } })).toThrow(/AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY/);
});
