import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Generation, Piece, Plan } from "../../engine/index.js";
import { FakeBackend, fakeEngine, nextToken } from "../support/engine/fake-backend.js";
import { collect } from "../support/engine/golden.js";
import { memoryStore } from "../support/rag/fakes.js";

const token = fc.integer({ min: 1, max: 63 });
const tokens = fc.array(token, { minLength: 1, maxLength: 6 });

/** Pieces one after the other, the last one fresh; kept ones have names. */
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

/** What the fake model must answer by the definition of a plan: a fresh token sees every piece before it. */
function expected({ pieces }: Plan, count: number): number[] {
  const rows = pieces.flatMap((piece) =>
    ("block" in piece ? piece.block : piece).tokens.map((token, i) => ({ token, position: piece.at + i })),
  );
  // The cache has the stored rows first; what a token sees is a set, but the fake model also uses its order.
  const spliced = pieces.flatMap((piece) =>
    "block" in piece ? piece.block.tokens.map((token, i) => ({ token, position: piece.at + i })) : [],
  );
  const fresh = rows.filter((row) => !spliced.some((each) => each.position === row.position));
  const seen = [...spliced, ...fresh];
  return Array.from({ length: count }, () => {
    const next = nextToken(seen);
    seen.push({ token: next, position: seen.length });
    return next;
  });
}

describe("an answer", () => {
  test("follows the plan, whatever its pieces", async () => {
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

describe("an answer that the caller leaves", () => {
  test("still stores the prompt's KV, which was complete at its first token", async () => {
    await using engine = fakeEngine(new FakeBackend());
    const store = memoryStore();
    const turn: Plan = {
      pieces: [
        { tokens: [1, 2, 3], at: 0, keep: "system" },
        { tokens: [4, 5, 6, 7], at: 3, keep: "question" },
      ],
    };
    for await (const _ of engine.generate(turn, { store, maxNewTokens: 50, keepAnswer: () => "answer" })) break;
    expect(await store.has("question")).toBe(true);
    expect(await store.has("answer")).toBe(false);
    const again = engine.generate(turn, { store, maxNewTokens: 1 });
    await again.text;
    expect(await again.stats).toMatchObject({ computed_tokens: 1 });
  });
});

test("counts each of a prompt's tokens once, as cached, encoded or computed", async () => {
  await using engine = fakeEngine(new FakeBackend());
  const store = memoryStore();
  const block = { tokens: [1, 2, 3, 4] };
  const plan: Plan = {
    pieces: [
      { block, at: 0, omit: [[1, 2]] },
      { block: { tokens: [5, 6] }, at: 4 },
      { tokens: [7, 8], at: 6 },
    ],
  };
  const costOf = async (options: object) => {
    const { cached_tokens, encoded_tokens, computed_tokens } = await engine.generate(plan, { ...options, maxNewTokens: 1 }).stats;
    return [cached_tokens, encoded_tokens, computed_tokens];
  };
  expect(await costOf({})).toEqual([0, 5, 2]);
  await store.put(engine.keyOf(block), await engine.encode(block));
  expect(await costOf({ store })).toEqual([3, 2, 2]);
  expect(await costOf({ store })).toEqual([5, 0, 2]);
});

describe("kept KV", () => {
  const turn: Plan = {
    pieces: [
      { tokens: [1, 2, 3], at: 0, keep: "system" },
      { tokens: [4, 5, 6, 7], at: 3, keep: "question" },
    ],
  };

  test("is what was computed, and repeating the request computes only the last token", async () => {
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

  test("replaces what was computed at once, so that later tokens see what a later request will see", async () => {
    const backend = new FakeBackend();
    // A store that rounds: the kept value of token t is t - t % 2.
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

describe("KV needed by several answers at once", () => {
  const question: Plan = {
    pieces: [
      { tokens: [1, 2, 3], at: 0, keep: "system" },
      { tokens: [4, 5, 6, 7], at: 3, keep: "question" },
    ],
  };
  const slowly = { before: () => sleep(1) };
  const computed = async (answers: readonly Generation[]) =>
    (await Promise.all(answers.map(({ stats }) => stats))).map(({ computed_tokens }) => computed_tokens);

  test.each([
    ["eight places", 8],
    ["fewer places than answers", 2],
  ])("is computed once, with %s: the others wait for it and compute only their logits", async (_, slots) => {
    const backend = new FakeBackend({ slots, ...slowly });
    await using engine = fakeEngine(backend);
    const store = memoryStore();
    const alone = await engine.generate(question, { maxNewTokens: 4 }).text;
    backend.passes.length = 0;
    const answers = Array.from({ length: 8 }, () => engine.generate(question, { store, maxNewTokens: 4 }));
    expect((await computed(answers)).sort()).toEqual([1, 1, 1, 1, 1, 1, 1, 7]);
    for (const answer of answers) expect(await answer.text).toBe(alone);
    expect(backend.passes.flat().filter((tokens) => tokens > 1)).toEqual([3, 4]);
  });

  test("is computed once as far as the prompts agree", async () => {
    await using engine = fakeEngine(new FakeBackend(slowly));
    const store = memoryStore();
    const other: Plan = { pieces: [question.pieces[0]!, { tokens: [9, 8], at: 3, keep: "other question" }] };
    const counts = await computed([question, other].map((plan) => engine.generate(plan, { store, maxNewTokens: 4 })));
    expect(counts).toEqual([7, 2]);
  });

  test("is computed by the next answer if the first leaves before it is complete", async () => {
    const backend = new FakeBackend({ ...slowly, passTokens: 1 });
    await using engine = fakeEngine(backend);
    const store = memoryStore();
    const abort = new AbortController();
    const { passes } = backend;
    const first = engine.generate(question, { store, signal: abort.signal });
    const left = expect(first.text).rejects.toMatchObject({ code: "cancelled" });
    const others = Array.from({ length: 3 }, () => engine.generate(question, { store, maxNewTokens: 4 }));
    const counts = computed(others);
    while (passes.length < 2) await sleep(0); // of the seven that the question takes
    abort.abort();
    await left;
    expect((await counts).reduce((sum, count) => sum + count)).toBeLessThanOrEqual(7 + 1 + 1);
  });

  test("is no longer waited for once the caller cancels", async () => {
    let open = () => undefined as void;
    const backend = new FakeBackend({ before: () => new Promise<void>((resolve) => (open = resolve)) });
    await using engine = fakeEngine(backend);
    const store = memoryStore();
    const first = engine.generate(question, { store, maxNewTokens: 1 }).text;
    const abort = new AbortController();
    const second = engine.generate(question, { store, signal: abort.signal }).text;
    await sleep(5);
    abort.abort();
    await expect(second).rejects.toMatchObject({ code: "cancelled" });
    const opening = setInterval(() => open(), 1);
    await first;
    clearInterval(opening);
  });

  test("is not waited for by an answer that others wait for: plans that need each other's KV both finish", async () => {
    await using engine = fakeEngine(new FakeBackend(slowly));
    const store = memoryStore();
    const piece = (name: string, at: number) => ({ tokens: [1, 2], at, keep: name });
    const plans: Plan[] = [{ pieces: [piece("a", 0), piece("b", 2)] }, { pieces: [piece("b", 0), piece("a", 2)] }];
    await computed(plans.map((plan) => engine.generate(plan, { store, maxNewTokens: 2 })));
    expect(engine.activity).toEqual({ running: 0, queued: 0 });
  });
});

test("keeps a plan's last piece, if it has no name, as the beginning of the answer", async () => {
  await using engine = fakeEngine(new FakeBackend());
  const store = memoryStore();
  const plan: Plan = {
    pieces: [
      { tokens: [1, 2, 3], at: 0, keep: "question" },
      { tokens: [40, 41], at: 3 },
    ],
  };
  const answer = engine.generate(plan, { store, maxNewTokens: 3, keepAnswer: () => "answer" });
  const ids = (await collect(answer)).map(({ id }) => id);
  const block = store.blocks.get("answer")!;
  expect([...block.k].filter((_, i) => i % 2 === 0)).toEqual([40, 41, ...ids.slice(0, -1)]);
});

test("a block that saw other tokens is encoded after them, and differs from one that saw none", async () => {
  const backend = new FakeBackend();
  await using engine = fakeEngine(backend);
  const alone = { tokens: [7, 8] };
  const behind = { tokens: [7, 8], after: [1, 2, 3] };
  expect(engine.keyOf(behind)).not.toBe(engine.keyOf(alone));
  const block = await engine.encode(behind);
  expect([block.tokens, [...block.k]]).toEqual([2, [7, 0, 8, 0]]);
  expect(backend.passes).toEqual([[5]]);
});

test("what several blocks saw is computed once as far as it is the same, without changing the blocks", async () => {
  const seen = (length: number) => Array.from({ length }, (_, i) => (i % 60) + 1);
  const sources = [
    { tokens: [7, 8], after: seen(40) },
    { tokens: [9], after: seen(40) },
    { tokens: [7, 8], after: seen(100) },
    { tokens: [5], after: [...seen(70), 3] },
    { tokens: [6], after: seen(40), adapted: true as const },
    { tokens: [4] },
  ];
  const backend = new FakeBackend();
  await using engine = fakeEngine(backend);
  for (const source of sources) {
    await using other = fakeEngine(new FakeBackend());
    expect((await engine.encode(source)).k).toEqual((await other.encode(source)).k);
  }
  // 40 + 2; 1; of the 100, 32 are there; of the 71, 64 are; adapted tokens share nothing; nothing precedes the last
  expect(backend.passes).toEqual([[42], [1], [70], [8], [41], [1]]);
});
