import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBlockPiece, loadModel, type Model, withoutCache } from "../../../engine/index.js";
import { type Plan, PlanWriter } from "../../../plan/index.js";
import { FakeBackend, fakeEngine } from "../../support/engine/fake-backend.js";
import { largestDifference } from "../../support/engine/reference.js";
import { memoryStore } from "../../support/rag/fakes.js";

describe("an answer over linked blocks", () => {
  const system = [1, 2];
  const documents = [
    [3, 40, 5, 30],
    [6, 7, 8, 50],
  ];
  const question = [9, 10];
  const plan = documents
    .reduce((writer, tokens) => writer.block({ tokens }, { loose: true }), new PlanWriter().block({ tokens: system }))
    .fresh(question, { asks: true }).plan;

  test("recomputes what the question attends to most, and reports the cost", async () => {
    const backend = new FakeBackend();
    const engine = fakeEngine(backend);
    const generation = engine.generate(plan, { maxNewTokens: 2, link: { kind: "question", share: 0.25 } });
    const text = await generation.text;
    const stats = await generation.stats;
    expect(stats).toMatchObject({ recomputed_tokens: 2, computed_tokens: 4, encoded_tokens: 8, cached_tokens: 0 });

    // The same plan, written by hand: tokens 40 and 50 are fresh, in place.
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

  test("neither stores KV after the blocks nor uses stored KV, if its key does not account for the recomputation", async () => {
    const engine = fakeEngine(new FakeBackend());
    const asked: string[] = [];
    const store = {
      get: async (key: string) => void asked.push(key),
      has: async () => false,
      put: async (key: string) => void asked.push(key),
      delete: async () => undefined,
      async *keys() {},
      close: async () => undefined,
    };
    const kept: Plan = {
      pieces: [...plan.pieces.slice(0, -1), { tokens: question, at: 10, keep: "kept", asks: true }, { tokens: [11], at: 12, keep: "last" }],
    };
    await engine.generate(kept, { maxNewTokens: 1, store, link: { kind: "question", share: 0.25 } }).text;
    expect(asked.filter((key) => key === "kept" || key === "last")).toEqual([]);
    await engine.generate(kept, { maxNewTokens: 1, store }).text;
    expect(asked).toContain("kept");
    await engine.close();
  });

  describe("with keys that account for the linking", () => {
    const link = { kind: "question" as const, share: 0.25 };
    const first: Plan = {
      pieces: [...plan.pieces.slice(0, -1), { tokens: question, at: 10, keep: "question 1", linked: "now", asks: true }],
    };
    const second: Plan = {
      pieces: [
        ...plan.pieces.slice(0, -1),
        { tokens: question, at: 10, keep: "question 1", linked: "before" },
        { tokens: [20], at: 12, keep: "answer 1", linked: "before" },
        { tokens: [11, 12], at: 13, keep: "question 2", linked: "now", asks: true },
      ],
    };

    test("keeps question and answer for the next prompt, which computes only its own question and what that attends to", async () => {
      await using engine = fakeEngine(new FakeBackend());
      const store = memoryStore();
      const blocks = new Set(plan.pieces.flatMap((piece) => (isBlockPiece(piece) ? [engine.keyOf(piece.block)] : [])));
      const kept = () => [...store.blocks.keys()].filter((key) => !blocks.has(key));
      await engine.generate(first, { store, link, maxNewTokens: 2, keepAnswer: () => "answer 1" }).text;
      expect(kept()).toEqual(["question 1", "answer 1"]);
      const answer = engine.generate(second, { store, link, maxNewTokens: 2, keepAnswer: () => "answer 2" });
      const text = await answer.text;
      expect(await answer.stats).toMatchObject({ computed_tokens: 4, recomputed_tokens: 2, cached_tokens: 2 + 8 - 2 + 3 });
      expect(kept()).toEqual(["question 1", "answer 1", "question 2", "answer 2"]);
      // Once more from the start: the choice of tokens does not depend on what was kept in the meantime.
      expect(await engine.generate(second, { store, link, maxNewTokens: 2 }).text).toBe(text);
    });

    test("keeps nothing if earlier turns are lost: they are computed under a choice that differs from their keys", async () => {
      await using engine = fakeEngine(new FakeBackend());
      const store = memoryStore();
      await engine.generate(first, { store, link, maxNewTokens: 2, keepAnswer: () => "answer 1" }).text;
      await store.delete(["question 1"]);
      const answer = engine.generate(second, { store, link, maxNewTokens: 2, keepAnswer: () => "answer 2" });
      await answer.text;
      expect(await answer.stats).toMatchObject({ computed_tokens: 4 + 2 });
      for (const key of ["question 1", "question 2", "answer 2"]) expect(await store.has(key)).toBe(false);
    });
  });

  test("a given answer is scored after the same prompt, with the stats of an answer's first token", async () => {
    const engine = fakeEngine(new FakeBackend());
    const how = { link: { kind: "question" as const, share: 0.25 } };
    const { logits, stats } = await engine.score(plan, [20, 21, 22], how);
    expect(logits).toHaveLength(3);
    expect([...logits[0]!]).toEqual([...(await engine.logits(plan, how))]);
    const { computed_tokens, recomputed_tokens, encoded_tokens, cached_tokens } = await engine.generate(plan, { ...how, maxNewTokens: 1 })
      .stats;
    expect(stats).toMatchObject({ computed_tokens, recomputed_tokens, encoded_tokens, cached_tokens });
    expect(stats.first_token_ms).toBeGreaterThanOrEqual(stats.look_ms);
    await engine.close();
  });

  test("does not look if there is nothing to link, or the link does not need it", async () => {
    const engine = fakeEngine(new FakeBackend());
    const plain: Plan = {
      pieces: [
        { block: { tokens: system }, at: 0 },
        { tokens: question, at: 2 },
      ],
    };
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
    for (const text of [
      "The ferry at Dollis crosses the river in four minutes.",
      "It carries six cars and a van.",
      "Bread rises by yeast.",
    ]) {
      writer.block({ tokens: model.tokenizer.encode(`Title: A\n${text}\n`) }, { loose: true });
    }
    plan = writer.fresh(control(model.card.prompt.question.replace("{question}", "How long does the ferry take?")), { asks: true }).plan;
  });
  afterAll(() => model.close());

  test("recomputing all tokens equals a full prefill; recomputing none equals plain splicing", async () => {
    const full = await model.logits(withoutCache(plan));
    expect(largestDifference(await model.logits(plan, { link: { kind: "question", share: 1 } }), full)).toBeLessThan(1e-3);
    const spliced = await model.logits(plan);
    expect(largestDifference(spliced, full)).toBeGreaterThan(0.1);
    expect(await model.logits(plan, { link: { kind: "question", share: 0 } })).toEqual(spliced);
  });

  test("a recomputed token sees everything before it in the prompt, including its own block", async () => {
    const linked = await model.logits(plan, { link: { kind: "head", tokens: 3 } });
    const [system, first, second, third, question] = plan.pieces as [
      never,
      { block: { tokens: number[] }; at: number },
      { block: { tokens: number[] }; at: number },
      { block: { tokens: number[] }; at: number },
      never,
    ];
    const parts = [first, second, third].flatMap(({ block, at }) => [
      { tokens: block.tokens.slice(0, 3), at },
      { block, at, omit: [[0, 3] as const] },
    ]);
    expect(await model.logits({ pieces: [system, ...parts, question] })).toEqual(linked);
  });
});
