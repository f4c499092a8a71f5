import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { Engine } from "../../engine/engine.js";
import type { Generation, Plan } from "../../engine/index.js";
import { FakeBackend, fakeEngine } from "../support/engine/fake-backend.js";
import { collect } from "../support/engine/golden.js";
import { memoryStore } from "../support/rag/fakes.js";

const plan: Plan = {
  pieces: [
    { block: { tokens: [5, 6, 7] }, at: 0 },
    { tokens: [1, 2, 3], at: 3 },
  ],
};
const PLACES = 3;

/** A gate where passes wait while it is shut. */
function gate() {
  let open = () => undefined as void;
  let shut: Promise<void> | undefined;
  return {
    shut: () => (shut = new Promise((resolve) => (open = resolve))),
    open: () => open(),
    wait: () => shut,
  };
}

/** Stages of an answer: each function resolves when the answer has reached it. */
const STAGES: Record<string, (engine: Engine, answer: Generation) => Promise<unknown>> = {
  "before it is used": async () => undefined,
  "during its first pass": async (_engine, answer) => {
    answer.begun.catch(() => undefined);
    await sleep(1);
  },
  "with its first token": async (_engine, answer) => answer.begun,
  "between two tokens": async (_engine, answer) => answer[Symbol.asyncIterator]().next(),
  "at its end": async (_engine, answer) => answer.text,
};

describe("an answer that the caller leaves", () => {
  test.each(Object.entries(STAGES))("%s releases its place and its cache", async (_stage, reach) => {
    const backend = new FakeBackend({ slots: PLACES, before: () => sleep(3) });
    let caches = 0;
    const { createCache } = backend;
    backend.createCache = () => (caches++, createCache.call(backend));
    await using engine = fakeEngine(backend);
    for (let round = 0; round < 4; round++) {
      // More answers than places, so that some are left while waiting for one.
      const answers = Array.from({ length: 2 * PLACES }, () => engine.generate(plan, { maxNewTokens: 4 }));
      await Promise.race([Promise.all(answers.map((answer) => reach(engine, answer).catch(() => undefined))), sleep(60)]);
      await Promise.all(answers.map((answer) => answer[Symbol.asyncDispose]()));
      expect(engine.activity).toEqual({ running: 0, queued: 0 });
    }
    expect(caches).toBeLessThanOrEqual(2 * PLACES); // of answers and of the blocks that they encode
    expect(await engine.generate(plan, { maxNewTokens: 4 }).text).toHaveLength(4);
  });

  test("by leaving its loop is cancelled, and its stats reject", async () => {
    await using engine = fakeEngine(new FakeBackend());
    const answer = engine.generate(plan);
    for await (const _ of answer) break;
    await expect(answer.stats).rejects.toMatchObject({ code: "cancelled" });
    await expect(answer.text).rejects.toMatchObject({ code: "cancelled" });
    expect(engine.activity).toEqual({ running: 0, queued: 0 });
  });

  test("by its signal only, between two tokens, releases everything even if the next token is never requested", async () => {
    await using engine = fakeEngine(new FakeBackend());
    const abort = new AbortController();
    const answer = engine.generate(plan, { signal: abort.signal });
    const tokens = answer[Symbol.asyncIterator]();
    await tokens.next();
    expect(engine.activity.running).toBe(1);
    abort.abort();
    await sleep(0);
    expect(engine.activity.running).toBe(0);
    await expect(tokens.next()).rejects.toMatchObject({ code: "cancelled" });
  });

  test("while it fetches its blocks lets the next one in", async () => {
    const backend = new FakeBackend({ slots: 1 });
    await using engine = fakeEngine(backend);
    let found = () => undefined as void;
    const slow = { ...memoryStore(), get: () => new Promise<undefined>((resolve) => (found = () => resolve(undefined))) };
    const abort = new AbortController();
    const first = engine.generate(plan, { store: slow, signal: abort.signal }).text;
    const second = engine.generate(plan, { maxNewTokens: 2 }).text;
    await sleep(1);
    abort.abort();
    found();
    await expect(first).rejects.toMatchObject({ code: "cancelled" });
    expect(await second).toHaveLength(2);
    expect(engine.activity).toEqual({ running: 0, queued: 0 });
  });
});

describe("an answer", () => {
  test("is complete for every reader: its text, its cost, and any number of loops", async () => {
    await using engine = fakeEngine(new FakeBackend());
    const whole = await engine.generate(plan).text;
    expect(whole).toHaveLength(16);
    const answer = engine.generate(plan);
    const [stats, tokens, text, again] = await Promise.all([answer.stats, collect(answer), answer.text, collect(answer)]);
    expect(stats).toMatchObject({ generated_tokens: 16, cached_tokens: 0, computed_tokens: 3, encoded_tokens: 3, finish: "length" });
    expect([text, tokens.map((token) => token.text).join("")]).toEqual([whole, whole]);
    expect(again).toEqual(tokens);
    expect((await collect(answer)).length).toBe(16);
  });

  test("that is never used computes nothing", async () => {
    const backend = new FakeBackend();
    await using engine = fakeEngine(backend);
    const { stats, text } = engine.generate(plan);
    await sleep(2);
    expect([typeof stats.then, typeof text.then, backend.passes]).toEqual(["function", "function", []]);
  });

  test("of which only the cost is awaited is computed to its end", async () => {
    await using engine = fakeEngine(new FakeBackend());
    expect(await engine.generate(plan, { maxNewTokens: 5 }).stats).toMatchObject({ generated_tokens: 5 });
    expect(engine.activity).toEqual({ running: 0, queued: 0 });
  });
});

describe("a model that is closed", () => {
  test("ends answers at every stage, encodings and prompts with `closed`, and runs no pass afterwards", async () => {
    const { shut, open, wait } = gate();
    const backend = new FakeBackend({ slots: PLACES, before: wait });
    const engine = fakeEngine(backend);
    const idle = engine.generate(plan);
    const between = engine.generate(plan);
    await between.begun;
    shut();
    const answers = Array.from({ length: 2 * PLACES }, () => engine.generate(plan));
    const work = [...answers.map((answer) => answer.text), engine.encode({ tokens: [1, 2] }), engine.logits(plan)];
    const ends = Promise.allSettled(work);
    const before = backend.passes.length;
    while (backend.passes.length === before) await sleep(1);
    const closing = Promise.all([engine.close(), engine.close()]);
    await sleep(5);
    expect(backend.closed).toBe(false); // a pass runs
    open();
    await closing;
    expect(backend.closed).toBe(true);
    const { length: passes } = backend.passes;
    for (const end of await ends)
      expect(end).toMatchObject({ status: "rejected", reason: { code: "closed", message: "fake was closed. Load it again." } });
    for (const answer of [between, idle, engine.generate(plan)]) await expect(answer.stats).rejects.toMatchObject({ code: "closed" });
    await expect(engine.encode({ tokens: [1] })).rejects.toMatchObject({ code: "closed" });
    expect(engine.activity).toEqual({ running: 0, queued: 0 });
    expect(backend.passes).toHaveLength(passes);
  });
});

test("many blocks of one answer listen to its signal without a warning from Node, and stop listening when they are done", async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  process.on("warning", warned);
  const engine = fakeEngine(new FakeBackend());
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 30 }, (_, i) => engine.encode({ tokens: [i + 1] }, { signal })));
  await sleep(10);
  process.off("warning", warned);
  expect(warnings).toEqual([]);
  await engine.close();
});
