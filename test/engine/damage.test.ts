import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeSafetensors, loadModel, type Model, openBlockStore, type Plan } from "../../engine/index.js";
import { golden } from "../support/engine/golden.js";
import { fileOf, flip, placesOf } from "../support/engine/stored-bytes.js";

let model: Model;
let dir: string;
beforeAll(async () => {
  model = await loadModel();
  dir = await mkdtemp(join(tmpdir(), "kvsplice-"));
});
afterAll(async () => {
  await model.close();
  await rm(dir, { recursive: true, force: true });
});

test("a real block with any bit flipped does not change the answer: it is reported, encoded again, and sound afterwards", async () => {
  const source = { tokens: golden.document_kv.ids };
  const plan: Plan = {
    pieces: [
      { block: source, at: 3 },
      { tokens: [2683, 314], at: 3 + source.tokens.length },
    ],
  };
  const key = model.keyOf(source);
  const bytes = Buffer.concat(encodeSafetensors(key, await model.encode(source))).length;
  const right = await model.logits(plan);
  const damaged: string[] = [];
  const withStore = async <T>(use: (store: ReturnType<typeof openBlockStore>) => Promise<T>): Promise<T> => {
    const store = openBlockStore({ disk: { path: dir } }, { onDamage: (each) => damaged.push(each) });
    try {
      return await use(store);
    } finally {
      await store.close();
    }
  };
  await withStore((store) => model.logits(plan, { store }));
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes - 1), fc.nat(7), async (at, bit) => {
      damaged.length = 0;
      for (const place of placesOf(dir, key)) await flip(fileOf(dir), place + at, 1 << bit);
      expect(await withStore((store) => model.logits(plan, { store }))).toEqual(right);
      expect(damaged).toEqual([key]);
      expect(await withStore((store) => store.tiers[0]!.verify(key))).toBe(true);
    }),
    { numRuns: 12, seed: 5 },
  );
});
