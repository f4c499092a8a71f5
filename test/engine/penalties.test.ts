import { describe, expect, test } from "vitest";
import { Penalties, type PenaltyOptions } from "../../engine/penalties.js";
import { createSampler } from "../../engine/sampling.js";

/** Logits of six tokens after the answer `said` to the prompt, with the penalties. */
function moved(options: PenaltyOptions, { prompt = [], said = [] }: { prompt?: number[]; said?: number[] } = {}): number[] {
  const penalties = new Penalties(options, prompt);
  said.forEach((id) => penalties.say(id));
  return [...penalties.apply(Float32Array.of(4, -2, 1, 0, 3, -1))];
}

describe("penalties", () => {
  test("of repetition divide positive logits and multiply negative ones, of prompt and answer, once each", () => {
    expect(moved({ repetitionPenalty: 2 }, { prompt: [0, 1, 1], said: [4, 4] })).toEqual([2, -4, 1, 0, 1.5, -1]);
    expect(moved({ repetitionPenalty: 0.5 }, { prompt: [0, 1] })).toEqual([8, -1, 1, 0, 3, -1]);
  });

  test("of frequency count a token's occurrences in the answer, of presence whether there is one; the prompt does not count", () => {
    expect(moved({ frequencyPenalty: 0.5 }, { prompt: [0], said: [4, 4, 2] })).toEqual([4, -2, 0.5, 0, 2, -1]);
    expect(moved({ presencePenalty: 0.5 }, { prompt: [0], said: [4, 4, 2] })).toEqual([4, -2, 0.5, 0, 2.5, -1]);
    expect(moved({ presencePenalty: -1, frequencyPenalty: -0.5 }, { said: [1] })).toEqual([4, -0.5, 1, 0, 3, -1]);
  });

  test("of both kinds: repetition first, as in vLLM", () => {
    expect(moved({ repetitionPenalty: 2, frequencyPenalty: 0.5, presencePenalty: 0.25 }, { said: [0, 0] })).toEqual([
      4 / 2 - 2 * 0.5 - 0.25,
      -2,
      1,
      0,
      3,
      -1,
    ]);
  });

  test("and biases are added last", () => {
    expect(
      moved(
        {
          presencePenalty: 1,
          logitBias: new Map([
            [0, -100],
            [3, 7],
          ]),
        },
        { said: [0] },
      ),
    ).toEqual([-97, -2, 1, 7, 3, -1]);
    expect(() => moved({ logitBias: new Map([[6, 1]]) })).toThrow(
      expect.objectContaining({ code: "bad_argument", message: expect.stringMatching(/token 6.*0 to 5/) }),
    );
  });

  test("leave the model's own logits as they are", () => {
    const logits = Float32Array.of(1, 2);
    new Penalties({ logitBias: new Map([[0, 5]]) }, []).apply(logits);
    expect([...logits]).toEqual([1, 2]);
    expect(new Penalties({}, [0]).apply(logits)).toBe(logits);
  });

  test.each<PenaltyOptions>([
    { repetitionPenalty: 0 },
    { repetitionPenalty: NaN },
    { frequencyPenalty: Infinity },
    { presencePenalty: NaN },
    { logitBias: new Map([[0, NaN]]) },
  ])("refuse %o", (options) => {
    expect(() => new Penalties(options, [])).toThrow(expect.objectContaining({ code: "bad_argument" }));
  });
});

test("a sampler counts what it chose: with a frequency penalty the likeliest token's lead is used up", () => {
  const sample = createSampler({ frequencyPenalty: 1 });
  const logits = Float32Array.of(0, 2.5, 1.2);
  // 1: 2.5, 1.5, 0.5 | 2: 1.2, 0.2 | 0: 0
  expect(Array.from({ length: 6 }, () => sample(logits))).toEqual([1, 1, 2, 1, 2, 0]);
});
