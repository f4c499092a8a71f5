import { createHash, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Queue } from "bullmq";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type Model, openBlockStore } from "../../engine/index.js";
import { Expectation } from "../../fleet/expectation.js";
import { openElsewhere, openFleet, startWorker } from "../../fleet/index.js";
import { PREFIX, queueOf } from "../../fleet/job.js";
import { randomBlock } from "../support/engine/random-block.js";
import { saltedModel } from "../support/fleet/salted-model.js";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { hasRedis, type RedisServer, startRedis } from "../support/redis-server.js";
import { wordyModel } from "../support/server/fake-serving.js";
import { remove, startServing } from "../support/server/serving.js";

let redis: RedisServer;
beforeAll(async () => {
  if (hasRedis) redis = await startRedis();
});
afterAll(() => redis?.stop());

/** The workers are expected much sooner on any machine, and are waited for as long as any machine takes. */
class SoonerThere extends Expectation {
  override here_ms = () => 60_000;
  override encodingThere_ms = () => 10_000;
}

/** They are expected even sooner, and waited for no longer than necessary. */
class AtOnceThere extends SoonerThere {
  override encodingThere_ms = () => 1;
}

type Told = {
  readonly elsewhere_tokens?: number;
  readonly elsewhere_ms?: number;
  readonly encoded_tokens: number;
  readonly fetch_ms: number;
};

describe.skipIf(!hasRedis)("encoding elsewhere at question time (skipped if redis-server is not installed)", () => {
  async function setUp(expected = new SoonerThere()) {
    const own = await startRedis();
    const { model } = await wordyModel();
    const serving = await startServing({ model, embedder: fakeEmbedder(), redis: own.url, encodeQueue: own.url, expected });
    onTestFinished(async () => {
      await serving.stop();
      remove(serving.folder);
      await own.stop();
    });
    const work = async (encode?: Model["encode"]) => {
      const { model: theirs } = await wordyModel();
      const store = openBlockStore({ redis: { url: own.url, prefix: "kvsplice:" } });
      const blocks: number[] = [];
      const worker = await startWorker({
        url: own.url,
        model: encode ? Object.assign(Object.create(theirs) as Model, { encode }) : theirs,
        store,
        onBlock: ({ tokens, encoded }) => encoded && blocks.push(tokens),
      });
      onTestFinished(async () => {
        await Promise.race([worker.close(), sleep(500)]);
        await store.close();
      });
      while (serving.service.elsewhere!.activity.workers === 0) await sleep(20); // counted once a second
      return blocks;
    };
    const ask = async (name: string, fields: object = {}) => {
      const documents = Array.from({ length: 5 }, (_, i) => ({
        title: `${name} ${i}`,
        text: Array.from({ length: 60 }, (_, word) => `${name} says word ${word} of ${i}.`).join(" "),
      }));
      return fetch(`${serving.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ documents, messages: [{ role: "user", content: "What is said?" }], max_tokens: 4, ...fields }),
      });
    };
    const told = async (response: Response) => ((await response.json()) as { kvsplice: Told }).kvsplice;
    return { ask, told, work, expected };
  }

  test("workers encode missing blocks, the server fetches them, and the answer is the same and reports it", async () => {
    const { ask, told, work, expected } = await setUp();
    const alone = await told(await ask("alone"));
    expect(alone.elsewhere_tokens).toBeUndefined();
    expect(alone.encoded_tokens).toBeGreaterThan(500);
    expect(expected.isMeasured).toEqual({ here: true, there: false });
    const blocks = await work();
    const left = await told(await ask("left"));
    expect(left.encoded_tokens).toBeGreaterThan(500);
    expect(left.elsewhere_tokens).toBe(left.encoded_tokens);
    expect(left.elsewhere_ms).toBeLessThanOrEqual(left.fetch_ms);
    expect(blocks.reduce((sum, tokens) => sum + tokens, 0)).toBe(left.elsewhere_tokens);
    expect(expected.isMeasured).toEqual({ here: true, there: true });
  });

  test("a stream reports that it waits, and its answer is the same as without workers", async () => {
    const { ask, work } = await setUp();
    const text = (body: string) => Array.from(body.matchAll(/"content":"([^"]*)"/g), ([, said]) => said).join("");
    await work();
    const body = await (await ask("streamed", { stream: true })).text();
    expect(body).toMatch(/^: waiting: \d+ tokens of a document are being encoded elsewhere\n\n/);
    expect(body).toMatch(/\ndata: \[DONE\]\n\n$/);
    const lone = await setUp();
    expect(text(await (await lone.ask("streamed", { stream: true })).text())).toBe(text(body));
  });

  test("does not wait for a worker that does not answer in time", async () => {
    const { ask, told, work } = await setUp(new AtOnceThere());
    await work(() => new Promise(() => undefined));
    const left = await told(await ask("not waited for"));
    expect(left.encoded_tokens).toBeGreaterThan(500);
    expect(left.elsewhere_tokens).toBeUndefined();
  });
});

describe.skipIf(!hasRedis)("a question's blocks", () => {
  test("go ahead of a precompute's, even if that requested them first", async () => {
    const salt = randomUUID();
    const done: number[] = [];
    const model = saltedModel(salt, { encode: async ({ tokens }) => (done.push(tokens[0]!), randomBlock(1)) });
    const held = new Set<string>();
    const store = {
      has: async (key: string) => held.has(key),
      get: async (key: string) => (held.has(key) ? randomBlock(1) : undefined),
      put: async (key: string) => void held.add(key),
      flush: async () => undefined,
    } as never;
    const sourceOf = (id: number) => ({ tokens: [id] });
    const queue = new Queue(queueOf(model), { connection: { url: redis.url }, prefix: PREFIX });
    onTestFinished(() => queue.close());
    const queued = async (wait: number, prioritized: number) => {
      for (;;) {
        const counts = await queue.getJobCounts("wait", "prioritized");
        if (counts["wait"] === wait && counts["prioritized"] === prioritized) return;
      }
    };
    const fleet = await openFleet({ url: redis.url, model, store });
    const elsewhere = await openElsewhere({ url: redis.url, model, store });
    expect(elsewhere.isSooner(100_000)).toBe(false); // there is no worker
    const precompute = [1, 2, 3, 4, 5].map((id) => fleet.encodeMissing(model.keyOf(sourceOf(id)), sourceOf(id)));
    await queued(0, 5);
    const questions = [9, 4].map((id) => elsewhere.encode(model.keyOf(sourceOf(id)), sourceOf(id)));
    await queued(2, 4);
    const worker = await startWorker({ url: redis.url, model, store, concurrency: 1 });
    expect(await Promise.all(questions)).toEqual([true, true]);
    await Promise.all(precompute);
    expect(new Set(done.slice(0, 2))).toEqual(new Set([9, 4]));
    expect(done.slice(2)).toEqual([1, 2, 3, 5]);
    await Promise.all([elsewhere.close(), fleet.close(), worker.close()]);
  });

  test("are encoded here while Redis is unreachable", async () => {
    const own = await startRedis();
    const notices: string[] = [];
    const model = saltedModel(createHash("sha256").digest("hex"));
    const elsewhere = await openElsewhere({
      url: own.url,
      model,
      store: { has: async () => false },
      onNotice: (notice) => notices.push(notice),
    });
    await own.stop();
    expect(await elsewhere.encode("ab".repeat(32), { tokens: [1] })).toBe(false);
    expect(elsewhere.isSooner(1_000_000)).toBe(false);
    await expect
      .poll(() => notices)
      .toEqual([expect.stringMatching(/^The queue at redis:\/\/127.0.0.1:\d+.* does not answer \(.*\); documents are encoded here\.$/)]);
    await elsewhere.close();
  });
});
