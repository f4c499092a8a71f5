import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, withoutCache, type Model } from "../../../engine/index.js";
import { PlanWriter, type Plan } from "../../../plan/index.js";
import { FakeBackend, fakeEngine } from "../fake-backend.js";
import { largestDifference } from "../reference.js";

describe("an answer over linked blocks", () => {
  const system = [1, 2];
  const documents = [[3, 40, 5, 30], [6, 7, 8, 50]];
  const question = [9, 10];
  const plan = documents.reduce((writer, tokens) => writer.block({ tokens }, { loose: true }), new PlanWriter().block({ tokens: system })).fresh(question, { asks: true }).plan;

  test("computes again what the question looks at most, and says what that took", async () => {
    const backend = new FakeBackend();
    const engine = fakeEngine(backend);
    const generation = engine.generate(plan, { maxNewTokens: 2, link: { kind: "question", share: 0.25 } });
    const text = await generation.text;
    const stats = await generation.stats;
    expect(stats).toMatchObject({ recomputed_tokens: 2, computed_tokens: 4, cached_tokens: 8 });

    // The same plan, written by hand: tokens 40 and 50 fresh in their places.
    const [first, second] = documents.map((tokens) => ({ tokens }));
    const byHand: Plan = {
      pieces: [
        { block: { tokens: system }, at: 0 },
        { block: first!, at: 2, omit: [[1, 4]] },
        { tokens: [40], at: 3 },
        { block: first!, at: 2, omit: [[0, 2]] },
        { block: second!, at: 6, omit: [[3, 4]] },
        { tokens: [50], at: 9 },
        { tokens: question, at: 10 },
      ],
    };
    expect(text).toBe(await engine.generate(byHand, { maxNewTokens: 2 }).text);
    await engine.close();
  });

  test("keeps nothing of what stands behind them, and takes nothing that was kept: no key says what was computed again", async () => {
    const engine = fakeEngine(new FakeBackend());
    const asked: string[] = [];
    const store = { get: async (key: string) => void asked.push(key), has: async () => false, put: async (key: string) => void asked.push(key), delete: async () => undefined, async *keys() {}, close: async () => undefined };
    const kept: Plan = { pieces: [...plan.pieces.slice(0, -1), { tokens: question, at: 10, keep: "kept", asks: true }, { tokens: [11], at: 12, keep: "last" }] };
    await engine.generate(kept, { maxNewTokens: 1, store, link: { kind: "question", share: 0.25 } }).text;
    expect(asked.filter((key) => key === "kept" || key === "last")).toEqual([]);
    await engine.generate(kept, { maxNewTokens: 1, store }).text;
    expect(asked).toContain("kept");
    await engine.close();
  });

  test("looks at nothing where there is nothing to link, or the link does not ask", async () => {
    const engine = fakeEngine(new FakeBackend());
    const plain: Plan = { pieces: [{ block: { tokens: system }, at: 0 }, { tokens: question, at: 2 }] };
    const none = engine.generate(plain, { maxNewTokens: 1, link: { kind: "question", share: 1 } });
    await none.text;
    expect(await none.stats).toMatchObject({ recomputed_tokens: 0, look_ms: 0 });
    const head = engine.generate(plan, { maxNewTokens: 1, link: { kind: "head", tokens: 1 } });
    await head.text;
    expect(await head.stats).toMatchObject({ recomputed_tokens: 2, look_ms: 0 });
    await engine.close();
  });
});

describe("on the default model", () => {
  let model: Model;
  let plan: Plan;
  beforeAll(async () => {
    model = await loadModel({ activations: "float32", precision: "float32" });
    const control = (text: string) => model.tokenizer.encode(text, { control: true });
    const writer = new PlanWriter().block({ tokens: control(model.card.prompt.system) });
    for (const text of ["The ferry at Dollis crosses the river in four minutes.", "It carries six cars and a van.", "Bread rises by yeast."]) {
      writer.block({ tokens: model.tokenizer.encode(`Title: A\n${text}\n`) }, { loose: true });
    }
    plan = writer.fresh(control(model.card.prompt.question.replace("{question}", "How long does the ferry take?")), { asks: true }).plan;
  });
  afterAll(() => model.close());

  test("all tokens computed again are a full prefill; none, plain splicing", async () => {
    const full = await model.logits(withoutCache(plan));
    expect(largestDifference(await model.logits(plan, { link: { kind: "question", share: 1 } }), full)).toBeLessThan(1e-3);
    const spliced = await model.logits(plan);
    expect(largestDifference(spliced, full)).toBeGreaterThan(0.1);
    expect(await model.logits(plan, { link: { kind: "question", share: 0 } })).toEqual(spliced);
  });

  test("a token that is computed again sees what stands before it in the prompt, in its own block too", async () => {
    const linked = await model.logits(plan, { link: { kind: "head", tokens: 3 } });
    const [system, first, second, third, question] = plan.pieces as [never, { block: { tokens: number[] }; at: number }, { block: { tokens: number[] }; at: number }, { block: { tokens: number[] }; at: number }, never];
    const parts = [first, second, third].flatMap(({ block, at }) => [
      { tokens: block.tokens.slice(0, 3), at },
      { block, at, omit: [[0, 3] as const] },
    ]);
    expect(await model.logits({ pieces: [system, ...parts, question] })).toEqual(linked);
  });
});
