import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { allowedRun, type Constraint, createMask, type Grammar, masked } from "../../engine/constraint.js";
import type { Engine } from "../../engine/engine.js";
import type { GenerateOptions, Plan } from "../../engine/index.js";
import { FakeBackend, fakeEngine, VOCABULARY } from "../support/engine/fake-backend.js";

/** Token t may follow s if both are even or both odd, or if t is a multiple of 5; an answer ends after 60. */
class Parity implements Constraint {
  static open = 0;
  readonly said: number[] = [];

  constructor() {
    Parity.open++;
  }

  may(token: number): boolean {
    const last = this.said.at(-1);
    return last === undefined || token % 2 === last % 2 || token % 5 === 0;
  }

  allowed(mask: Uint32Array): void {
    mask.fill(0);
    for (let token = 0; token < VOCABULARY; token++) if (this.may(token)) mask[token >> 5]! |= 1 << (token & 31);
  }

  accept(token: number): void {
    if (!this.may(token)) throw new Error(`${token} may not follow ${this.said.at(-1)}`);
    this.said.push(token);
  }

  rollback(tokens: number): void {
    this.said.length -= tokens;
  }

  get finished(): boolean {
    return this.said.at(-1) === 60;
  }

  [Symbol.dispose](): void {
    Parity.open--;
  }
}

const grammar: Grammar = { begin: () => new Parity() };
const token = fc.integer({ min: 0, max: VOCABULARY - 1 });
const prompts = fc.array(token, { minLength: 1, maxLength: 12 });
const planOf = (tokens: readonly number[]): Plan => ({ pieces: [{ tokens, at: 0 }] });

async function answer(engine: Engine, plan: Plan, options: GenerateOptions = {}) {
  const generation = engine.generate(plan, { grammar, maxNewTokens: 24, ...options });
  const ids: number[] = [];
  for await (const { id } of generation) ids.push(id);
  return { ids, finish: (await generation.stats).finish };
}

afterEach(() => {
  expect(Parity.open).toBe(0);
});

describe("an answer with a grammar", () => {
  test("contains only what the grammar allows, and ends when nothing may follow", async () => {
    const engine = fakeEngine(new FakeBackend());
    let ended = 0;
    await fc.assert(
      fc.asyncProperty(prompts, fc.constantFrom(0, 1.5), async (prompt, temperature) => {
        const { ids, finish } = await answer(engine, planOf(prompt), { temperature, seed: 3 });
        const walk = new Parity();
        for (const id of ids) walk.accept(id);
        expect(finish).toBe(walk.finished ? "end" : "length");
        expect(ids.slice(0, -1)).not.toContain(60);
        if (walk.finished) ended++;
        else expect(ids).toHaveLength(24);
        walk[Symbol.dispose]();
      }),
      { seed: 1 },
    );
    expect(ended).toBeGreaterThan(0);
  });

  test("is the same with guesses from the prompt, all of them allowed by the grammar", async () => {
    const passes: number[][] = [];
    const backend = new FakeBackend();
    const engine = fakeEngine(backend);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 4, maxLength: 30 }), async (prompt) => {
        const plain = await answer(engine, planOf(prompt));
        expect(await answer(engine, planOf(prompt), { promptLookup: 6 })).toEqual(plain);
      }),
    );
    passes.push(...backend.passes);
    expect(passes.flat().some((tokens) => tokens > 1)).toBe(true);
  });

  test("is the same alongside others as alone", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(prompts, { minLength: 2, maxLength: 16 }), async (each) => {
        const engine = fakeEngine(new FakeBackend());
        const alone = [];
        for (const prompt of each) alone.push(await answer(engine, planOf(prompt)));
        expect(await Promise.all(each.map((prompt) => answer(engine, planOf(prompt))))).toEqual(alone);
      }),
      { numRuns: 20 },
    );
  });

  test("reports the model's own log probabilities", async () => {
    const engine = fakeEngine(new FakeBackend());
    const seen: Float32Array[] = [];
    const generation = engine.generate(planOf([3, 4]), {
      grammar,
      maxNewTokens: 8,
      logprobs: 0,
      onLogits: (logits) => seen.push(logits.slice()),
    });
    let at = 0;
    for await (const { id, logprob } of generation) {
      const logits = seen[at++]!;
      const sum = logits.reduce((all, logit) => all + Math.exp(logit), 0);
      expect(logprob).toBeCloseTo(logits[id]! - Math.log(sum), 5);
    }
    expect(at).toBe(8);
  });

  test("that the caller leaves disposes of its constraint", async () => {
    const engine = fakeEngine(new FakeBackend());
    for await (const _ of engine.generate(planOf([3, 4]), { grammar })) break;
    const waiting = engine.generate(planOf([3, 4]), { grammar, signal: AbortSignal.abort() });
    await expect(waiting.text).rejects.toThrow(/ancelled/);
  });
});

test("only the tokens in the mask keep their logits", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), fc.func(fc.boolean()), (vocabulary, may) => {
      const mask = createMask(vocabulary);
      const logits = Float32Array.from({ length: vocabulary }, (_, token) => token + 1);
      const expected = logits.map((logit, token) => (may(token) ? logit : -Infinity));
      for (let token = 0; token < 32 * mask.length; token++) if (token >= vocabulary || may(token)) mask[token >> 5]! |= 1 << (token & 31);
      expect(masked(logits, mask)).toEqual(expected);
    }),
  );
});

test("a guess is used as far as the grammar allows, and the constraint's state is unchanged", () => {
  const walk = new Parity();
  walk.accept(2);
  const mask = createMask(VOCABULARY);
  expect(allowedRun(walk, mask, [4, 6, 5, 7, 8])).toBe(4);
  expect(allowedRun(walk, mask, [3])).toBe(0);
  expect(allowedRun(walk, mask, [60, 2])).toBe(1);
  expect(walk.said).toEqual([2]);
  walk[Symbol.dispose]();
});
