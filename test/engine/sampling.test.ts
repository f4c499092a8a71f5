import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createSampler, logprobsOf } from "../../engine/sampling.js";

const logits = fc
  .array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 2, maxLength: 50 })
  .map((values) => Float32Array.from(values));

function draws(values: Float32Array, options: Parameters<typeof createSampler>[0], count: number): number[] {
  const sample = createSampler(options);
  return Array.from({ length: count }, () => sample(values));
}

describe("a sampler", () => {
  test("at temperature 0 picks the likeliest token", () => {
    fc.assert(
      fc.property(logits, (values) => {
        const chosen = values[createSampler({})(values)]!;
        expect(values.every((value) => value <= chosen)).toBe(true);
      }),
    );
  });

  test("draws each token as often as softmax with the temperature predicts", () => {
    const values = Float32Array.of(0, 1, 2);
    const shares = [...values].map((logit) => Math.exp(logit / 0.5));
    const sum = shares.reduce((a, b) => a + b);
    const drawn = draws(values, { temperature: 0.5, seed: 1 }, 20_000);
    shares.forEach((share, id) => {
      const [expected, deviation] = [(20_000 * share) / sum, Math.sqrt((20_000 * share * (sum - share)) / sum ** 2)];
      expect(Math.abs(drawn.filter((each) => each === id).length - expected)).toBeLessThan(5 * deviation);
    });
  });

  test("with top-p draws only from the fewest tokens whose probabilities reach it", () => {
    const values = Float32Array.from([0.5, 0.3, 0.15, 0.05], Math.log);
    expect(new Set(draws(values, { temperature: 1, topP: 0.7, seed: 1 }, 500))).toEqual(new Set([0, 1]));
    expect(new Set(draws(values, { temperature: 1, topP: 0.45, seed: 1 }, 500))).toEqual(new Set([0]));
  });

  test("with top-k draws only from that many of the likeliest, and top-p applies to these", () => {
    const values = Float32Array.from([0.05, 0.5, 0.3, 0.15], Math.log);
    expect(new Set(draws(values, { temperature: 1, topK: 2, seed: 1 }, 500))).toEqual(new Set([1, 2]));
    expect(new Set(draws(values, { temperature: 1, topK: 1, seed: 1 }, 50))).toEqual(new Set([1]));
    expect(new Set(draws(values, { temperature: 1, topK: 9, seed: 1 }, 500))).toEqual(new Set([0, 1, 2, 3]));
    expect(new Set(draws(values, { temperature: 1, topK: 2, topP: 0.6, seed: 1 }, 500))).toEqual(new Set([1]));
  });

  test("with min-p draws only from tokens at least that fraction as likely as the likeliest, and top-p applies to these", () => {
    const values = Float32Array.from([0.5, 0.3, 0.15, 0.05], Math.log);
    expect(new Set(draws(values, { temperature: 1, minP: 0.29, seed: 1 }, 500))).toEqual(new Set([0, 1, 2]));
    expect(new Set(draws(values, { temperature: 1, minP: 0.31, seed: 1 }, 500))).toEqual(new Set([0, 1]));
    expect(new Set(draws(values, { temperature: 1, minP: 1, seed: 1 }, 50))).toEqual(new Set([0]));
    // Of 0.5 and 0.3, the first has 62.5 %.
    expect(new Set(draws(values, { temperature: 1, minP: 0.31, topP: 0.6, seed: 1 }, 500))).toEqual(new Set([0]));
    expect(new Set(draws(values, { temperature: 1, minP: 0.31, topP: 0.65, seed: 1 }, 500))).toEqual(new Set([0, 1]));
  });

  test("draws the same with the same seed, and differently with another", () => {
    const values = Float32Array.from({ length: 100 }, (_, i) => Math.sin(i));
    const drawn = (seed: number) => draws(values, { temperature: 1, seed }, 50);
    expect(drawn(3)).toEqual(drawn(3));
    expect(drawn(3)).not.toEqual(drawn(4));
  });

  test.each([{ temperature: -1 }, { temperature: NaN }, { topP: 0 }, { topP: 1.1 }, { minP: -0.1 }, { minP: 1.1 }])(
    "refuses %o",
    (options) => {
      expect(() => createSampler(options)).toThrow(expect.objectContaining({ code: "bad_argument" }));
    },
  );
});

test("log probabilities are those of softmax, likeliest first", () => {
  fc.assert(
    fc.property(logits, fc.nat(5), (values, top) => {
      const sum = values.reduce((a, b) => a + Math.exp(b), 0);
      const found = logprobsOf(values, 1, top);
      expect(found.logprob).toBeCloseTo(values[1]! - Math.log(sum), 6);
      const sorted = [...values].sort((a, b) => b - a).slice(0, top);
      expect(found.top).toHaveLength(sorted.length);
      found.top.forEach(({ id, logprob }, i) => {
        expect(values[id]).toBeCloseTo(sorted[i]!, 6);
        expect(logprob).toBeCloseTo(sorted[i]! - Math.log(sum), 6);
      });
    }),
  );
});
