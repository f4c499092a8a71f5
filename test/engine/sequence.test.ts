import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Piece, Plan } from "../../engine/index.js";
import { memoryStore } from "../rag/fakes.js";
import { FakeBackend, fakeEngine, nextToken } from "./fake-backend.js";
import { collect } from "./golden.js";

const token = fc.integer({ min: 1, max: 63 });
const tokens = fc.array(token, { minLength: 1, maxLength: 6 });

/** Pieces one behind the other, the last one fresh; kept ones have names. */
const plans: fc.Arbitrary<Plan> = fc
  .tuple(fc.array(fc.record({ kind: fc.constantFrom("block", "fresh", "kept"), tokens }), { maxLength: 5 }), tokens, fc.boolean())
  .map(([pieces, question, keepLast]) => {
    let at = 0;
    const laid = pieces.map(({ kind, tokens }, i): Piece => {
      const piece = kind === "block" ? { block: { tokens }, at } : { tokens, at, ...(kind === "kept" && { keep: `piece ${i}` }) };
      at += tokens.length;
      return piece;
    });
    return { pieces: [...laid, { tokens: question, at, ...(keepLast && { keep: "question" }) }] };
  });

/** What the fake model answers, by the definition of a plan: a fresh token sees every piece before it. */
function expected({ pieces }: Plan, count: number): number[] {
  const rows = pieces.flatMap((piece) => ("block" in piece ? piece.block : piece).tokens.map((token, i) => ({ token, position: piece.at + i })));
  // Rows lie in the cache with the stored ones first; what a token sees is a set, of which the fake takes the order too.
  const spliced = pieces.flatMap((piece) => ("block" in piece ? piece.block.tokens.map((token, i) => ({ token, position: piece.at + i })) : []));
  const fresh = rows.filter((row) => !spliced.some((each) => each.position === row.position));
  const seen = [...spliced, ...fresh];
  return Array.from({ length: count }, () => {
    const next = nextToken(seen);
    seen.push({ token: next, position: seen.length });
    return next;
  });
}

describe("an answer", () => {
  test("is what the plan says, whatever pieces it has", async () => {
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        await using engine = fakeEngine(new FakeBackend({ passTokens: 4 }));
        const ids = (await collect(engine.generate(plan, { maxNewTokens: 4 }))).map(({ id }) => id);
        expect(ids).toEqual(expected(plan, 4));
      }),
      { numRuns: 100 },
    );
  });
});

describe("an answer that is left", () => {
  test("leaves the prompt's KV in the store, which was whole when its first token came", async () => {
    await using engine = fakeEngine(new FakeBackend());
    const store = memoryStore();
    const turn: Plan = { pieces: [{ tokens: [1, 2, 3], at: 0, keep: "system" }, { tokens: [4, 5, 6, 7], at: 3, keep: "question" }] };
    for await (const _ of engine.generate(turn, { store, maxNewTokens: 50, keepAnswer: () => "answer" })) break;
    expect(await store.has("question")).toBe(true);
    expect(await store.has("answer")).toBe(false);
    const again = engine.generate(turn, { store, maxNewTokens: 1 });
    await again.text;
    expect(await again.stats).toMatchObject({ computed_tokens: 1 });
  });
});

describe("what is kept", () => {
  const turn: Plan = { pieces: [{ tokens: [1, 2, 3], at: 0, keep: "system" }, { tokens: [4, 5, 6, 7], at: 3, keep: "question" }] };

  test("is what was computed, and the same request again computes the last token alone", async () => {
    const backend = new FakeBackend();
    await using engine = fakeEngine(backend);
    const store = memoryStore();
    const first = engine.generate(turn, { store, keepAnswer: () => "answer" });
    const text = await first.text;
    expect(await first.stats).toMatchObject({ cached_tokens: 0, computed_tokens: 7 });
    expect([...store.blocks.keys()]).toEqual(["system", "question", "answer"]);
    expect([...store.blocks.get("question")!.k].filter((_, i) => i % 2 === 0)).toEqual([4, 5, 6, 7]);
    backend.passes.length = 0;
    const again = engine.generate(turn, { store });
    expect(await again.text).toBe(text);
    expect(await again.stats).toMatchObject({ cached_tokens: 6, computed_tokens: 1 });
    expect(backend.passes[0]).toEqual([1]);
  });

  test("replaces what was computed at once, so that all behind it sees what a later request will see", async () => {
    const backend = new FakeBackend();
    // A store that rounds: what is kept of token t is t - t % 2.
    const { createCache } = backend;
    backend.createCache = () => {
      const cache = createCache.call(backend);
      const extract = cache.extract.bind(cache);
      cache.extract = (from, to) => {
        const block = extract(from, to);
        block.k.forEach((value, i) => (block.k[i] = value - (value % 2)));
        return block;
      };
      return cache;
    };
    await using engine = fakeEngine(backend);
    const store = memoryStore();
    const cold = await engine.generate(turn, { store }).text;
    expect(store.blocks.size).toBe(2);
    expect(await engine.generate(turn, { store }).text).toBe(cold);
    expect(await engine.generate(turn, { store: memoryStore() }).text).toBe(cold);
    expect(await engine.generate({ pieces: [{ tokens: [1, 2, 3, 4, 5, 6, 7], at: 0 }] }).text).not.toBe(cold);
  });
});

test("a block that saw others is encoded behind them, and is another than one that saw none", async () => {
  const backend = new FakeBackend();
  await using engine = fakeEngine(backend);
  const alone = { tokens: [7, 8] };
  const behind = { tokens: [7, 8], after: [1, 2, 3] };
  expect(engine.keyOf(behind)).not.toBe(engine.keyOf(alone));
  const block = await engine.encode(behind);
  expect([block.tokens, [...block.k]]).toEqual([2, [7, 0, 8, 0]]);
  expect(backend.passes).toEqual([[5]]);
});
