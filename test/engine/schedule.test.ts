import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBlockPiece, loadModel, type Model, type Plan } from "../../engine/index.js";
import { Admission } from "../../engine/schedule/admission.js";
import { memoryStore } from "../rag/fakes.js";
import { collect, golden, planOf } from "./golden.js";

describe("answers at once", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel();
  });
  afterAll(() => model.close());

  const store = memoryStore();
  const ids = async (plan: Plan) => (await collect(model.generate(plan, { store, maxNewTokens: 12 }))).map(({ id }) => id);

  test("are, token for token, those of one at a time", async () => {
    const plans = golden.cases.map(planOf);
    const alone: number[][] = [];
    for (const plan of plans) alone.push(await ids(plan));
    // The first round opens the session for several; the second is batched from its beginning.
    for (let round = 0; round < 2; round++) expect(await Promise.all(plans.map(ids))).toEqual(alone);
  });

  test("begin with a shared document without splicing it again, and are the same", async () => {
    const plan = planOf(golden.cases[1]!);
    const [first, second] = [await collect(model.generate(plan, { store })), await collect(model.generate(plan, { store }))];
    expect(second).toEqual(first);
  });

  test("beyond the places wait, and say how long", async () => {
    const plans = Array.from({ length: 10 }, () => ({ pieces: [{ tokens: [1, 4093, 198], at: 0 }] }));
    const generations = plans.map((plan) => model.generate(plan, { maxNewTokens: 3 }));
    const runs = generations.map((generation) => collect(generation));
    await setTimeout(0);
    expect(model.activity).toEqual({ running: 8, queued: 2 });
    await Promise.all(runs);
    const waits = await Promise.all(generations.map(async ({ stats }) => (await stats).queue_ms));
    expect(waits.filter((wait) => wait > 1)).toHaveLength(2);
    expect(model.activity).toEqual({ running: 0, queued: 0 });
  });

  test("that are cancelled, wherever they are, leave the others alone and give their places back", async () => {
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

  /** The order in which those that wait are let in, one after the other. */
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

  test("lets the oldest in first", async () => {
    expect(await order([atOnce, atOnce, atOnce])).toEqual([0, 1, 2]);
  });

  test("prefers whose blocks are in memory", async () => {
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

  test("passes nobody over more than four times", async () => {
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

  test("lets one that gives up out of the queue", async () => {
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
