import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type GenerateOptions, loadModel, type Model, type Plan } from "../../engine/index.js";
import { PromptLookup } from "../../engine/lookup.js";
import { collect, golden, planOf } from "../support/engine/golden.js";
import { largestDifference } from "../support/engine/reference.js";
import { memoryStore } from "../support/rag/fakes.js";

function guess(prompt: readonly number[], answer: readonly number[], most = 3): number[] {
  const lookup = new PromptLookup(prompt, most);
  for (const token of answer) lookup.push(token);
  return lookup.guess();
}

describe("a guess", () => {
  test("is what followed the answer's last token", () => {
    expect(guess([1, 2, 3, 4, 5, 6], [3])).toEqual([4, 5, 6]);
  });

  test("prefers the place that matches more of the answer's tokens, then the latest place", () => {
    expect(guess([7, 3, 4, 9, 3, 5, 9], [9, 3], 1)).toEqual([5]);
    expect(guess([7, 3, 4, 8, 3, 5, 6], [9, 3], 1)).toEqual([5]);
    expect(guess([7, 3, 4, 8, 3, 5, 6], [7, 3], 1)).toEqual([4]);
  });

  test("also searches the answer", () => {
    expect(guess([], [1, 2, 3, 1], 2)).toEqual([2, 3]);
  });

  test("is empty for an empty answer, or one that repeats nothing", () => {
    expect(guess([1, 2, 1], [])).toEqual([]);
    expect(guess([1, 2, 1], [3])).toEqual([]);
  });

  test("has at most 32 tokens", () => {
    for (const most of [-1, 0.5, 33, Number.NaN]) expect(() => guess([1], [1], most)).toThrow(/from 1 to 32/);
  });

  test("is always a run of the text after the answer's last token, and no longer than the limit", () => {
    const token = fc.integer({ min: 0, max: 5 });
    fc.assert(
      fc.property(fc.array(token), fc.array(token, { minLength: 1 }), fc.integer({ min: 1, max: 4 }), (prompt, answer, most) => {
        const found = guess(prompt, answer, most);
        const text = [...prompt, ...answer];
        const before = text.slice(0, -1).includes(text.at(-1)!);
        expect(found.length > 0).toBe(before);
        expect(found.length).toBeLessThanOrEqual(most);
        if (before) expect(`,${text.join()},`).toContain(`,${[text.at(-1), ...found].join()},`);
      }),
    );
  });
});

describe("an answer with guesses", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel();
  });
  afterAll(() => model.close());
  const store = memoryStore();

  /** A prompt whose answer keeps repeating it. */
  const counting: Plan = { pieces: [{ tokens: Array.from({ length: 90 }, (_, i) => [701, 808, 905][i % 3]!), at: 0 }] };
  /** The plans of this prompt, of an entirely fresh one, and of those over documents. */
  const plans = [counting, ...golden.cases.filter(({ mode }, i) => mode === "blocked" || i === golden.cases.length - 4).map(planOf)];

  async function answer(plan: Plan, options: GenerateOptions) {
    const generation = model.generate(plan, { store, maxNewTokens: 24, ...options });
    const tokens = await collect(generation);
    return { tokens, stats: await generation.stats };
  }

  /** Each plan's answer without guesses. */
  let unguessed: readonly Awaited<ReturnType<typeof answer>>[];
  beforeAll(async () => {
    unguessed = [];
    for (const plan of plans) unguessed = [...unguessed, await answer(plan, {})];
  });

  test.each([1, 3, 8])("equals the answer without guesses token for token: up to %i at a time", async (promptLookup) => {
    for (const [i, plan] of plans.entries()) {
      const guessed = await answer(plan, { promptLookup });
      expect(guessed.tokens).toEqual(unguessed[i]!.tokens);
      expect(guessed.stats.finish).toBe(unguessed[i]!.stats.finish);
      expect(unguessed[i]!.stats).toMatchObject({ drafted_tokens: 0, accepted_tokens: 0 });
      expect(guessed.stats.accepted_tokens).toBeLessThanOrEqual(guessed.stats.drafted_tokens);
    }
  });

  test("accepts correct guesses and rejects others", async () => {
    const { stats } = await answer(counting, { promptLookup: 3 });
    expect(stats.accepted_tokens).toBeGreaterThan(12);
    const all = await Promise.all(plans.map(async (plan) => (await answer(plan, { promptLookup: 3 })).stats));
    expect(all.some(({ drafted_tokens, accepted_tokens }) => drafted_tokens > accepted_tokens)).toBe(true);
  });

  test("draws the same tokens for the same seed, and reports the same probabilities", async () => {
    const options = { temperature: 0.8, topP: 0.9, seed: 7, logprobs: 2 };
    for (const plan of plans.slice(0, 4)) {
      const [plain, guessed] = [await answer(plan, options), await answer(plan, { ...options, promptLookup: 3 })];
      expect(guessed.tokens.map(({ id }) => id)).toEqual(plain.tokens.map(({ id }) => id));
      guessed.tokens.forEach(({ logprob }, i) => expect(logprob).toBeCloseTo(plain.tokens[i]!.logprob!, 1));
    }
  });

  test("ends at its limit and at a stop text", async () => {
    const whole = unguessed[0]!;
    for (const maxNewTokens of [1, 2, 5])
      expect((await answer(counting, { maxNewTokens, promptLookup: 8 })).tokens).toHaveLength(maxNewTokens);
    const stop = [model.tokenizer.decode(whole.tokens.slice(5, 7).map(({ id }) => id))];
    const [plain, guessed] = [await answer(counting, { stop }), await answer(counting, { stop, promptLookup: 8 })];
    expect(guessed.tokens).toEqual(plain.tokens);
    expect(guessed.stats.finish).toBe("stop");
  });

  test("is the same alongside others", async () => {
    for (let round = 0; round < 2; round++) {
      const together = await Promise.all(plans.map((plan) => answer(plan, { promptLookup: 4 })));
      expect(together.map(({ tokens }) => tokens)).toEqual(unguessed.map(({ tokens }) => tokens));
    }
  });
});

test("keeps the KV of the answer's tokens, not of the guesses", async () => {
  const exact = await loadModel({ activations: "float32", precision: "float32" });
  const store = memoryStore();
  const prompt = golden.cases[0]!.prompt_ids;
  let said: readonly number[] = [];
  const generation = exact.generate(
    { pieces: [{ tokens: prompt, at: 0, keep: "turn" }] },
    { store, promptLookup: 6, keepAnswer: (tokens) => ((said = [...tokens]), "answer") },
  );
  await collect(generation);
  const { drafted_tokens, accepted_tokens } = await generation.stats;
  expect(drafted_tokens).toBeGreaterThan(accepted_tokens);
  const next = (keep: boolean): Plan => ({
    pieces: [
      { tokens: prompt, at: 0, ...(keep && { keep: "turn" }) },
      { tokens: said, at: prompt.length, ...(keep && { keep: "answer" }) },
      { tokens: [260, 1158], at: prompt.length + said.length },
    ],
  });
  const again = exact.generate(next(true), { store, maxNewTokens: 1 });
  await collect(again);
  expect((await again.stats).cached_tokens).toBe(prompt.length + said.length);
  expect(largestDifference(await exact.logits(next(true), { store }), await exact.logits(next(false)))).toBeLessThan(1e-3);
  await exact.close();
});
