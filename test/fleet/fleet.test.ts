import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

import { Queue } from "bullmq";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { openFleet, startWorker } from "../../fleet/index.js";
import { PREFIX, queueOf } from "../../fleet/job.js";
import { openCorpus } from "../../rag/index.js";
import { saltedModel } from "../support/fleet/salted-model.js";
import { sharedStore } from "../support/fleet/shared-store.js";
import { fakeEmbedder } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";
import { freePort, hasRedis, type RedisServer, startRedis } from "../support/redis-server.js";

const FILES = 20;
const LINES = 3;
const WORKER = join(import.meta.dirname, "../support/fleet/worker-process.ts");

let redis: RedisServer;
beforeAll(async () => {
  if (hasRedis) redis = await startRedis();
});
afterAll(() => redis?.stop());

async function setUp(server: RedisServer = redis) {
  const root = await temporaryFolder();
  const [dir, docs, blocks] = [join(root, "store"), join(root, "docs"), join(root, "blocks")];
  await mkdir(docs);
  for (let file = 0; file < FILES; file++) {
    const lines = Array.from({ length: LINES }, (_, line) =>
      JSON.stringify({ title: `File ${file}`, text: `Text ${file} ${line} of many.` }),
    );
    await writeFile(join(docs, `${file}.jsonl`), lines.join("\n"));
  }
  const salt = randomUUID();
  const model = saltedModel(salt);
  const store = sharedStore(blocks);
  const corpus = await openCorpus(dir, { model, store, embedder: fakeEmbedder(), create: true });
  onTestFinished(() => corpus.close());
  const notices: string[] = [];
  const openOne = async () => {
    const fleet = await openFleet({ url: server.url, model, store, onNotice: (notice) => notices.push(notice) });
    onTestFinished(() => fleet.close());
    return fleet;
  };
  const queue = new Queue(queueOf(model), { connection: { url: server.url }, prefix: PREFIX });
  queue.on("error", () => undefined);
  onTestFinished(() => queue.close());
  const work = (as = salt) => spawnWorker(server.url, blocks, as);
  return { docs, model, store, corpus, notices, queue, openOne, work };
}

function spawnWorker(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, ["--import", "tsx", WORKER, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

const begun = (child: ChildProcess) => once(child.stdout!, "data");

describe.skipIf(!hasRedis)("a fleet over Redis (skipped if redis-server is not installed)", () => {
  test("if a worker is killed, another does its jobs; every block arrives, and none is left in the queue", async () => {
    const { docs, model, store, corpus, queue, openOne, work } = await setUp();
    const [first, second] = [work(), work()];
    const fleet = await openOne();
    while (fleet.activity.workers < 2) await setTimeout(20);
    const run = corpus.precompute([docs], { encoder: fleet });
    await Promise.all([begun(first), begun(second)]);
    first.kill("SIGKILL");
    expect(await run).toMatchObject({ files: FILES, chunks: FILES * LINES, encoded: FILES * LINES, problems: [] });
    expect(model.encoded).toEqual([]);
    expect(fleet.activity.workers).toBe(1);
    expect(fleet.activity.redone).toBeGreaterThan(0);
    for (let file = 0; file < FILES; file++) {
      const [best] = await corpus.retrieve(`Text ${file} 1`, { topK: 1 });
      expect(await store.get(model.keyOf({ tokens: best!.tokens }))).toBeDefined();
    }
    expect(Object.values(await queue.getJobCounts()).every((count) => count === 0)).toBe(true);
    expect(await corpus.precompute([docs], { encoder: fleet })).toMatchObject({ encoded: 0, unchanged: FILES });
  });

  test("when cancelled, it withdraws the jobs that no worker has begun, and the next run resumes", async () => {
    const { docs, corpus, queue, openOne, work } = await setUp();
    const worker = work();
    const fleet = await openOne();
    const cancel = new AbortController();
    let before = 0;
    const run = corpus.precompute([docs], {
      encoder: fleet,
      signal: cancel.signal,
      onProgress({ encoded }) {
        before = encoded;
        if (encoded >= 5) cancel.abort();
      },
    });
    await expect(run).rejects.toMatchObject({ code: "cancelled" });
    await fleet.close();
    expect(before).toBeLessThan(FILES * LINES);
    expect(await queue.getJobCounts("waiting", "delayed")).toEqual({ waiting: 0, delayed: 0 });
    const next = await corpus.precompute([docs], { encoder: await openOne() });
    expect(next.chunks).toBe(FILES * LINES);
    expect(next.encoded).toBeLessThanOrEqual(FILES * LINES - 5);
    worker.kill("SIGINT");
    expect(await once(worker, "exit")).toEqual([0, null]);
  });

  test("equal blocks are one job, whoever requests them", async () => {
    const { docs, model, store, corpus, openOne, work } = await setUp();
    const other = await openCorpus(await temporaryFolder(), { model, store, embedder: fakeEmbedder(), create: true });
    onTestFinished(() => other.close());
    const fleets = [await openOne(), await openOne()];
    const worker = work();
    let encoded = 0;
    worker.stdout!.on("data", (data) => (encoded += String(data).split("\n").length - 1));
    await Promise.all([corpus.precompute([docs], { encoder: fleets[0]! }), other.precompute([docs], { encoder: fleets[1]! })]);
    expect(encoded).toBe(FILES * LINES);
  });

  test("closing one fleet takes nothing from another that waits for the same blocks", async () => {
    const { model, openOne, work } = await setUp();
    const [ended, other] = [await openOne(), await openOne()];
    const sources = Array.from({ length: 10 }, (_, token) => ({ tokens: [token + 65] }));
    const asked = (fleet: typeof ended) => Promise.all(sources.map((source) => fleet.encodeMissing(model.keyOf(source), source)));
    const first = asked(ended);
    const second = asked(other);
    await Promise.all([expect(first).rejects.toMatchObject({ code: "cancelled" }), setTimeout(200).then(() => ended.close())]);
    work();
    expect(await second).toEqual(sources.map(() => true));
  });

  test("workers with another model never see the jobs, and the waiting side is told so", async () => {
    const { docs, corpus, notices, queue, openOne, work } = await setUp();
    const wrong = work(randomUUID());
    const fleet = await openOne();
    const cancel = new AbortController();
    const run = corpus.precompute([docs], { encoder: fleet, signal: cancel.signal });
    const poll = setInterval(() => notices.length > 0 && cancel.abort(), 50);
    await expect(run).rejects.toMatchObject({ code: "cancelled" });
    clearInterval(poll);
    expect(notices).toEqual([
      expect.stringMatching(
        /^There is no worker for fake \(\w{12}\) in float32 at redis:.*; the 1 there use a different model.* Start some: kvsplice worker --queue redis:/,
      ),
    ]);
    expect(await queue.getCompletedCount()).toBe(0);
    wrong.kill("SIGINT");
    await once(wrong, "exit");
  });

  test("a worker refuses a job for a different kind of block, which ends the run with advice", async () => {
    const { model, store, openOne } = await setUp();
    const worker = await startWorker({
      url: redis.url,
      model: { ...model, keyOf: (source) => (source.tokens.length === 0 ? model.keyOf(source) : "0".repeat(64)) },
      store,
    });
    onTestFinished(() => worker.close());
    const fleet = await openOne();
    const asked = fleet.encodeMissing(model.keyOf({ tokens: [1] }), { tokens: [1] });
    await expect(asked).rejects.toMatchObject({
      code: "job_failed",
      message: expect.stringMatching(/Start workers with the model and precision of the precompute/),
    });
    expect(model.encoded).toEqual([]);
  });

  test("a job names the adapters for its blocks: a worker without them refuses it and names the option that loads them", async () => {
    const { model, store } = await setUp();
    const worker = await startWorker({ url: redis.url, model, store });
    onTestFinished(() => worker.close());
    const adapted = { ...model, adapters: [{ name: "hf:acme/facts=0.5", id: "b".repeat(64), where: "encode" as const }] };
    const fleet = await openFleet({ url: redis.url, model: adapted, store });
    onTestFinished(() => fleet.close());
    const asked = fleet.encodeMissing(model.keyOf({ tokens: [1] }), { tokens: [1] });
    await expect(asked).rejects.toMatchObject({
      code: "job_failed",
      message: expect.stringMatching(/lacks hf:acme\/facts=0\.5\. Start workers with --adapter hf:acme\/facts=0\.5/),
    });
    expect(model.encoded).toEqual([]);
  });

  test("if Redis comes back without its data, the jobs are queued again and the run continues", async () => {
    const port = await freePort();
    const first = await startRedis([], port);
    const { docs, corpus, notices, openOne, work } = await setUp(first);
    const fleet = await openOne();
    const worker = work();
    const run = corpus.precompute([docs], { encoder: fleet });
    await begun(worker);
    await first.stop();
    while (notices.length === 0) await setTimeout(20);
    const second = await startRedis([], port);
    onTestFinished(() => second.stop());
    expect(await run).toMatchObject({ chunks: FILES * LINES });
    expect(notices[0]).toMatch(/does not answer .*; waiting for it/);
  });

  test("a worker with several jobs encodes one at a time while others are sent, and measures each one's own time", async () => {
    const ENCODING_MS = 30;
    let [encoding, most, travelling] = [0, 0, 0];
    const seen: number[] = [];
    const { model, store, openOne } = await setUp();
    const slow = {
      ...model,
      encode: async (source: Parameters<typeof model.encode>[0]) => {
        most = Math.max(most, ++encoding);
        seen.push(travelling);
        await setTimeout(ENCODING_MS);
        encoding--;
        return model.encode(source);
      },
    };
    const put = async (...args: Parameters<typeof store.put>) => {
      travelling++;
      await setTimeout(ENCODING_MS);
      await store.put(...args);
      travelling--;
    };
    const shared = { has: (key: string) => store.has(key), flush: () => store.flush(), put };
    const fleet = await openOne();
    const supplied = Promise.all([1, 2, 3, 4].map((id) => fleet.encodeMissing(model.keyOf({ tokens: [id] }), { tokens: [id] })));
    const worker = await startWorker({ url: redis.url, model: slow, store: shared, concurrency: 4 });
    onTestFinished(() => worker.close());
    await supplied;
    expect(most).toBe(1);
    expect(Math.max(...seen)).toBeGreaterThan(0);
  });

  test("retries a job that fails for a while", async () => {
    const { model, store, openOne } = await setUp();
    let failures = 2;
    const broken = {
      has: (key: string) => store.has(key),
      flush: () => store.flush(),
      put: async (...args: Parameters<typeof store.put>) =>
        failures-- > 0 ? Promise.reject(new Error("The tier is full.")) : store.put(...args),
    };
    const worker = await startWorker({ url: redis.url, model, store: broken });
    onTestFinished(() => worker.close());
    const fleet = await openOne();
    expect(await fleet.encodeMissing(model.keyOf({ tokens: [1] }), { tokens: [1] })).toBe(true);
    expect(model.encoded).toHaveLength(3);
  });
});

test("both sides report at once that no Redis answers", async () => {
  const url = `redis://:secret@127.0.0.1:${await freePort()}`;
  const unreachable = {
    code: "unreachable",
    message: expect.stringMatching(/^No Redis answers at redis:\/\/:\*\*\*@127.0.0.1:\d+ \(.*ECONNREFUSED.*\); start one there/),
  };
  const model = saltedModel("");
  const store = sharedStore(await temporaryFolder());
  await expect(openFleet({ url, model, store })).rejects.toMatchObject(unreachable);
  await expect(startWorker({ url, model, store })).rejects.toMatchObject(unreachable);
  await expect(openFleet({ url: "http://localhost", model, store })).rejects.toMatchObject({ code: "bad_argument" });
});
