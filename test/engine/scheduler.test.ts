import { describe, expect, test } from "vitest";
import { Scheduler } from "../../engine/schedule/scheduler.js";
import { FakeBackend, VOCABULARY } from "../support/engine/fake-backend.js";

/** Prompt tokens in a pass that also continues answers. */
const BESIDE_ANSWERS = 64;

const partOf = (backend: FakeBackend, tokens: number, logits = 0) => ({
  cache: backend.createCache(),
  tokens: Array.from({ length: tokens }, (_, i) => i % VOCABULARY),
  positions: Array.from({ length: tokens }, (_, i) => i),
  logits,
});

/** A running answer: requests its next token as soon as it has one. Resolves with the passes that each token took. */
async function answerOf(scheduler: Scheduler, backend: FakeBackend, tokens: number): Promise<number[]> {
  const { cache } = partOf(backend, 0);
  const passes: number[] = [];
  for (let i = 0; i < tokens; i++) {
    const before = backend.passes.length;
    await scheduler.compute({ cache, tokens: [1], positions: [i], logits: 1 });
    passes.push(backend.passes.length - before);
  }
  return passes;
}

const idle = () => new Promise((resolve) => setTimeout(resolve, 5));

describe("a running answer", () => {
  test("needs one pass per token, however many long encodings wait", async () => {
    const backend = new FakeBackend();
    const scheduler = new Scheduler(backend);
    const encodings = Array.from({ length: 8 }, () => scheduler.compute(partOf(backend, 2500)));
    await idle();
    const passes = await answerOf(scheduler, backend, 20);
    expect(passes.slice(1)).toEqual(Array(19).fill(1)); // the first has a pass to wait for, which runs
    await Promise.all(encodings);
  });

  test("advances at least every second pass if a pass takes one part, and so do encodings", async () => {
    const backend = new FakeBackend({ slots: 1 });
    const scheduler = new Scheduler(backend);
    const encoding = scheduler.compute(partOf(backend, 2500));
    const passes = await answerOf(scheduler, backend, 6);
    expect(Math.max(...passes)).toBeLessThanOrEqual(2);
    expect(backend.passes.filter(([tokens]) => tokens! > 1).length).toBeGreaterThanOrEqual(5);
    await encoding;
  });

  test("shares its passes with prompts, which then get few tokens per pass", async () => {
    const backend = new FakeBackend({ passTokens: 200 });
    backend.widen();
    const scheduler = new Scheduler(backend);
    const encoding = scheduler.compute(partOf(backend, 1000));
    await answerOf(scheduler, backend, 4);
    await encoding;
    const shared = backend.passes.filter((pass) => pass.length > 1);
    expect(shared).toHaveLength(4);
    expect(shared.every(([step, prompt]) => step === 1 && prompt === BESIDE_ANSWERS)).toBe(true);
    expect(backend.passes.flat().reduce((sum, tokens) => sum + tokens)).toBe(1004);
  });
});

describe("work that waits alongside answers that fill every slot", () => {
  test("gets one slot in each pass, and the answers take turns", async () => {
    const backend = new FakeBackend({ slots: 4 });
    backend.widen();
    const scheduler = new Scheduler(backend);
    const answers = Array.from({ length: 4 }, () => answerOf(scheduler, backend, 30));
    const encoding = scheduler.compute(partOf(backend, 10 * BESIDE_ANSWERS));
    await encoding;
    expect(backend.passes.filter((pass) => pass.includes(BESIDE_ANSWERS))).toHaveLength(10);
    // In the meantime four answers shared three slots: each missed at most every fourth pass.
    for (const passes of await Promise.all(answers)) expect(Math.max(...passes)).toBeLessThanOrEqual(2);
  });

  test("runs in order of arrival", async () => {
    const backend = new FakeBackend({ slots: 2 });
    backend.widen();
    const scheduler = new Scheduler(backend);
    const ended: number[] = [];
    const answering = answerOf(scheduler, backend, 40);
    await Promise.all([300, 100, 200].map((tokens, i) => scheduler.compute(partOf(backend, tokens)).then(() => ended.push(i))));
    expect(ended).toEqual([0, 1, 2]);
    await answering;
  });
});

describe("a prompt", () => {
  test("alone is cut into the best number of tokens per pass, and returns only its last logits", async () => {
    const backend = new FakeBackend({ passTokens: 100 });
    const logits = await new Scheduler(backend).compute(partOf(backend, 250, 1));
    expect(backend.passes).toEqual([[100], [100], [50]]);
    expect(logits).toHaveLength(VOCABULARY);
  });

  test("returns logits that later passes do not overwrite", async () => {
    const backend = new FakeBackend();
    const scheduler = new Scheduler(backend);
    const first = await scheduler.compute(partOf(backend, 3, 1));
    const copy = first.slice();
    for (let i = 0; i < 5; i++) await scheduler.compute(partOf(backend, i + 1, 1));
    expect(first).toEqual(copy);
  });
});

describe("work that is cancelled", () => {
  test("leaves before the next pass, and the others continue", async () => {
    const abort = new AbortController();
    const backend = new FakeBackend({ passTokens: 10, before: () => void (backend.passes.length === 2 && abort.abort()) });
    const scheduler = new Scheduler(backend);
    const ended = scheduler.compute(partOf(backend, 1000), abort.signal);
    const other = scheduler.compute(partOf(backend, 30));
    await expect(ended).rejects.toMatchObject({ code: "cancelled" });
    await other;
    expect(backend.passes.flat().reduce((sum, tokens) => sum + tokens)).toBe(20 + 30);
  });

  test("is followed at once by its caller's next work", async () => {
    const abort = new AbortController();
    const backend = new FakeBackend({ passTokens: 10, before: () => void (backend.passes.length === 1 && abort.abort()) });
    const scheduler = new Scheduler(backend);
    const next = scheduler.compute(partOf(backend, 100), abort.signal).catch(() => scheduler.compute(partOf(backend, 5)));
    await next;
    expect(backend.passes).toEqual([[10], [5]]);
  });
});

test("a failing pass fails the work in it and nothing else", async () => {
  const backend = new FakeBackend({
    passTokens: 10,
    before: () => (backend.passes.length === 1 ? Promise.reject(new Error("no memory")) : undefined),
  });
  const scheduler = new Scheduler(backend);
  const [failed, other] = await Promise.allSettled([scheduler.compute(partOf(backend, 100)), scheduler.compute(partOf(backend, 20))]);
  expect([failed!.status, other!.status]).toEqual(["rejected", "fulfilled"]);
});
