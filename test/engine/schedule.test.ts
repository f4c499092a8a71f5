import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBlockPiece, loadModel, type Model, type Plan } from "../../engine/index.js";
import { Admission } from "../../engine/schedule/admission.js";
import { collect, golden, planOf } from "../support/engine/golden.js";
import { memoryStore } from "../support/rag/fakes.js";

describe("concurrent answers", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel();
  });
  afterAll(() => model.close());

  const store = memoryStore();
  const ids = async (plan: Plan) => (await collect(model.generate(plan, { store, maxNewTokens: 12 }))).map(({ id }) => id);

  test("equal those computed one at a time, token for token", async () => {
    const plans = golden.cases.filter(({ mode }, i) => mode === "blocked" || i === golden.cases.length - 4).map(planOf);
    const alone: number[][] = [];
    for (const plan of plans) alone.push(await ids(plan));
    // The first round opens the session for several; the second is batched from its beginning.
    for (let round = 0; round < 2; round++) expect(await Promise.all(plans.map(ids))).toEqual(alone);
  });

  test("reuse a shared first document without splicing it again, and are the same", async () => {
    const plan = planOf(golden.cases[1]!);
    const [first, second] = [await collect(model.generate(plan, { store })), await collect(model.generate(plan, { store }))];
    expect(second).toEqual(first);
  });

  test("beyond the number of places wait, and report how long", async () => {
    const plans = Array.from({ length: 10 }, () => ({ pieces: [{ tokens: [1, 4093, 198], at: 0 }] }));
    const generations = plans.map((plan) => model.generate(plan, { maxNewTokens: 3 }));
    const runs = generations.map((generation) => collect(generation));
    await setTimeout(0);
    expect(model.activity).toEqual({ running: 8, queued: 2 });
    await Promise.all(runs);
    const waits = await Promise.all(generations.map(async ({ stats }) => (await stats).queue_ms));
    const [first, last] = [waits.slice(0, 8), waits.slice(8)];
    expect(Math.min(...last)).toBeGreaterThan(Math.max(...first));
    expect(model.activity).toEqual({ running: 0, queued: 0 });
  });

  test("cancelled at any stage do not affect the others, and release their places", async () => {
    const plan = planOf(golden.cases[1]!);
    expect(plan.pieces.some(isBlockPiece)).toBe(true);
    const alone = await ids(plan);
    const others = Array.from({ length: 12 }, (_, i) => {
      const abort = new AbortController();
      void setTimeout(i * 40).then(() => abort.abort());
      return collect(model.generate(plan, { store, signal: abort.signal, maxNewTokens: 40 })).catch((error: unknown) => error);
    });
    expect(await ids(plan)).toEqual(alone);
    for (const ended of await Promise.all(others)) {
      if (!Array.isArray(ended)) expect(ended).toMatchObject({ code: "cancelled" });
    }
    expect(model.activity).toEqual({ running: 0, queued: 0 });
  });
});

describe("admission", () => {
  const never = () => new Promise<void>(() => undefined);
  const atOnce = () => Promise.resolve();

  /** The order in which those waiting are admitted. */
  async function order(waiting: readonly (() => Promise<void>)[]): Promise<number[]> {
    const admission = new Admission(1);
    await admission.enter(atOnce);
    const entered: number[] = [];
    const all = waiting.map((prepare, i) => admission.enter(prepare).then(() => entered.push(i)));
    for (let i = 0; i < waiting.length; i++) {
      await setTimeout(0);
      admission.leave();
      await setTimeout(0);
    }
    await Promise.all(all);
    return entered;
  }

  test("admits the oldest first", async () => {
    expect(await order([atOnce, atOnce, atOnce])).toEqual([0, 1, 2]);
  });

  test("prefers an answer whose blocks are in memory", async () => {
    const admission = new Admission(2);
    await admission.enter(atOnce);
    await admission.enter(atOnce);
    const entered: string[] = [];
    void admission.enter(never).then(() => entered.push("not ready"));
    void admission.enter(atOnce).then(() => entered.push("ready"));
    await setTimeout(0);
    admission.leave();
    await setTimeout(0);
    expect(entered).toEqual(["ready"]);
    admission.leave();
    await setTimeout(0);
    expect(entered).toEqual(["ready", "not ready"]);
  });

  test("lets nobody be overtaken more than four times", async () => {
    const admission = new Admission(8);
    for (let i = 0; i < 8; i++) await admission.enter(atOnce);
    const entered: number[] = [];
    for (let i = 0; i < 7; i++) void admission.enter(i === 0 ? never : atOnce).then(() => entered.push(i));
    for (let i = 0; i < 7; i++) {
      await setTimeout(0);
      admission.leave();
    }
    await setTimeout(0);
    expect(entered).toEqual([1, 2, 3, 4, 0, 5, 6]);
  });

  test("removes a cancelled one from the queue", async () => {
    const admission = new Admission(1);
    await admission.enter(atOnce);
    const abort = new AbortController();
    const waiting = admission.enter(atOnce, abort.signal);
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
    expect(admission.queued).toBe(0);
    admission.leave();
    expect(admission.running).toBe(0);
  });
});
