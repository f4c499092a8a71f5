import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, type Model, type Plan } from "../../engine/index.js";
import { collect, golden } from "../support/engine/golden.js";
import { largestDifference } from "../support/engine/reference.js";
import { memoryStore } from "../support/rag/fakes.js";

const first = golden.cases[0]!.prompt_ids.slice(0, 90);
const second = [2683, 314, 260, 1158, 282, 4649, 47];

describe("the KV of a conversation", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel({ activations: "float32", precision: "float32" });
  });
  afterAll(() => model.close());

  test("is computed once: the next turn's logits over kept KV equal those of computing everything", async () => {
    const store = memoryStore();
    let answer: readonly number[] = [];
    await collect(
      model.generate(
        { pieces: [{ tokens: first, at: 0, keep: "turn 1" }] },
        {
          store,
          maxNewTokens: 5,
          keepAnswer(tokens) {
            answer = [...tokens];
            return "answer 1";
          },
        },
      ),
    );
    expect(answer.length).toBeGreaterThan(0);
    const at = first.length + answer.length;
    const next = (keep: boolean): Plan => ({
      pieces: [
        { tokens: first, at: 0, ...(keep && { keep: "turn 1" }) },
        { tokens: answer, at: first.length, ...(keep && { keep: "answer 1" }) },
        { tokens: second, at },
      ],
    });
    expect(largestDifference(await model.logits(next(true), { store }), await model.logits(next(false)))).toBeLessThan(1e-3);
    const generation = model.generate(next(true), { store, maxNewTokens: 1 });
    await collect(generation);
    expect(await generation.stats).toMatchObject({ cached_tokens: at, computed_tokens: second.length });
  });

  test("can move: kept KV at a later position gives the logits of computing it there", async () => {
    const store = memoryStore();
    await collect(model.generate({ pieces: [{ tokens: first, at: 7, keep: "moved" }] }, { store, maxNewTokens: 1 }));
    const moved = (keep: boolean): Plan => ({
      pieces: [
        { tokens: first, at: 300, ...(keep && { keep: "moved" }) },
        { tokens: second, at: 300 + first.length },
      ],
    });
    expect(largestDifference(await model.logits(moved(true), { store }), await model.logits(moved(false)))).toBeLessThan(1e-3);
  });

  test("that cannot be stored causes a warning, and the answer is complete", async () => {
    const store = { ...memoryStore(), put: () => Promise.reject(new Error("The disk is full.")) };
    const generation = model.generate({ pieces: [{ tokens: first, at: 0, keep: "turn" }] }, { store, maxNewTokens: 2 });
    expect((await collect(generation)).length).toBeGreaterThan(0);
    expect((await generation.stats).warnings).toEqual([expect.stringContaining("The disk is full.")]);
  });
});

describe("an answer", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel();
  });
  afterAll(() => model.close());

  const plan: Plan = { pieces: [{ tokens: first, at: 0 }] };
  const text = async (options: Parameters<Model["generate"]>[1]) =>
    (await collect(model.generate(plan, options))).map((token) => token.text).join("");

  test("ends before a stop text, and reports why it ended", async () => {
    const whole = await text({ maxNewTokens: 12 });
    const stop = whole.slice(3, 6);
    const generation = model.generate(plan, { maxNewTokens: 12, stop: [stop] });
    expect((await collect(generation)).map((token) => token.text).join("")).toBe(whole.slice(0, whole.indexOf(stop)));
    expect((await generation.stats).finish).toBe("stop");
  });

  test("reports log probabilities: at temperature 0 the token is the likeliest", async () => {
    const tokens = await collect(model.generate(plan, { maxNewTokens: 3, logprobs: 2 }));
    for (const { id, logprob, top } of tokens.filter((token) => token.id >= 0)) {
      expect(top).toHaveLength(2);
      expect(top![0]).toMatchObject({ id, logprob });
      expect(top![1]!.logprob).toBeLessThanOrEqual(logprob!);
    }
  });

  test("is equal for equal seeds", async () => {
    const options = { temperature: 1.5, topP: 0.9, seed: 11, maxNewTokens: 8 };
    expect(await text(options)).toBe(await text(options));
  });
});
