import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BlockSource, loadModel, type Model, openDiskStore, type Piece, type Plan, withoutCache } from "../../engine/index.js";
import { collect, golden, planOf } from "../support/engine/golden.js";
import { largestDifference, referenceEngine } from "../support/engine/reference.js";

let model: Model;
let fromScratch: (plan: Plan) => Promise<Float32Array>;

beforeAll(async () => {
  model = await loadModel({ activations: "float32", precision: "float32" });
  fromScratch = await referenceEngine();
});
afterAll(() => model.close());

const token = fc.integer({ min: 4, max: 49_000 });
const document = fc.array(token, { minLength: 1, maxLength: 40 });

describe("a block has no position", () => {
  test("spliced in any order at any offset, blocks give the logits of encoding them there from scratch", async () => {
    const dir = await mkdtemp(join(tmpdir(), "kvsplice-"));
    const store = openDiskStore(dir);
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(document, { minLength: 2, maxLength: 4, selector: String }).chain((documents) =>
          fc.record({
            order: fc.shuffledSubarray(documents, { minLength: 1 }),
            gaps: fc.array(fc.integer({ min: 0, max: 1500 }), { minLength: 4, maxLength: 4 }),
          }),
        ),
        fc.array(token, { minLength: 1, maxLength: 12 }),
        async ({ order, gaps }, question) => {
          let at = 0;
          const pieces: Piece[] = order.map((tokens, i) => {
            at += gaps[i]!;
            const piece = { block: { tokens }, at };
            at += tokens.length;
            return piece;
          });
          const plan = { pieces: [...pieces, { tokens: question, at }] };
          // All runs share the store: the same blocks return at other positions.
          expect(largestDifference(await model.logits(plan, { store }), await fromScratch(plan))).toBeLessThan(1e-3);
        },
      ),
      { numRuns: 15, seed: 7 },
    );
    await rm(dir, { recursive: true });
  });

  test("gaps within a block, omitted tokens, and fresh tokens between blocks keep their positions and visibility", async () => {
    const gapped: BlockSource = { tokens: [500, 600, 700, 800, 900], offsets: [0, 1, 10, 11, 12] };
    const plan: Plan = {
      pieces: [
        { block: gapped, at: 3, omit: [[1, 3]] },
        { tokens: [1000, 1001], at: 40 },
        { block: { tokens: [2000, 2001, 2002] }, at: 100 },
        { tokens: [3000, 3001], at: 20 },
      ],
    };
    expect(largestDifference(await model.logits(plan), await fromScratch(plan))).toBeLessThan(1e-3);
  });

  test("a block longer than one pass is encoded as if in one pass", async () => {
    const tokens = Array.from({ length: 390 }, (_, i) => 1000 + ((i * 37) % 5000));
    const plan: Plan = {
      pieces: [
        { block: { tokens }, at: 5 },
        { tokens: [42], at: 395 },
      ],
    };
    expect(largestDifference(await model.logits(plan), await fromScratch(plan))).toBeLessThan(1e-3);
  });

  test("a long prompt is prefilled in pieces with the logits of one pass", async () => {
    const tokens = Array.from({ length: 600 }, (_, i) => 1000 + ((i * 37) % 5000));
    const plan: Plan = { pieces: [{ tokens, at: 0 }] };
    expect(largestDifference(await model.logits(plan), await fromScratch(plan))).toBeLessThan(1e-3);
  });
});

describe("withoutCache", () => {
  test("makes every token fresh, at the same position", () => {
    const plan: Plan = {
      pieces: [
        { block: { tokens: [5, 6, 7, 8], offsets: [0, 1, 4, 5] }, at: 10, omit: [[1, 2]] },
        { tokens: [9], at: 30 },
      ],
    };
    expect(withoutCache(plan)).toEqual({
      pieces: [
        { tokens: [5], at: 10 },
        { tokens: [7, 8], at: 14 },
        { tokens: [9], at: 30 },
      ],
    });
  });
});

describe("generate", () => {
  const plan: Plan = { pieces: [{ tokens: [1, 4093, 198], at: 0 }] };

  test("ends at once when its signal is aborted", async () => {
    const abort = new AbortController();
    const generation = model.generate(planOf(golden.cases[1]!), { signal: abort.signal });
    let seen = 0;
    const run = (async () => {
      for await (const _ of generation) if (++seen === 2) abort.abort();
    })();
    await expect(run).rejects.toMatchObject({ code: "cancelled" });
    await expect(generation.stats).rejects.toMatchObject({ code: "cancelled" });
    expect(seen).toBe(2);
  });

  test("two concurrent answers do not affect each other", async () => {
    const other: Plan = { pieces: [{ tokens: [1, 9690, 198, 2683], at: 0 }] };
    const ids = async (p: Plan) => (await collect(model.generate(p, { maxNewTokens: 6 }))).map(({ id }) => id);
    const [alone, otherAlone] = [await ids(plan), await ids(other)];
    expect(await Promise.all([ids(plan), ids(other)])).toEqual([alone, otherAlone]);
  });

  test("refuses a prompt beyond the context, or one that does not end with fresh tokens, with the reason", async () => {
    await expect(model.logits({ pieces: [{ tokens: [1], at: model.contextLength }] })).rejects.toMatchObject({ code: "too_long" });
    await expect(model.logits({ pieces: [{ block: { tokens: [1] }, at: 0 }] })).rejects.toMatchObject({ code: "bad_argument" });
  });
});
