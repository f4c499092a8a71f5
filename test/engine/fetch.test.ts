import { expect, onTestFinished, test } from "vitest";
import { setTimeout as sleep } from "node:timers/promises";
import { fetchBlocks, storeBlock } from "../../engine/fetch.js";
import { allocateBlock } from "../../engine/kv/block.js";
import { openStore, type TieredStore } from "../../engine/index.js";
import { temporaryFolder } from "../rag/temporary-folder.js";
import { likeLayers } from "./plain-kv.js";
import { numberedBlock, numberedEncoder, sourceOf } from "./numbered-blocks.js";

async function openHere(): Promise<TieredStore> {
  const store = openStore({ disk: { path: await temporaryFolder() } });
  onTestFinished(() => store.close());
  return store;
}

test("what the store has is read, what it has not is encoded once, kept, and told", async () => {
  const store = await openHere();
  const encoded: number[] = [];
  const encoder = numberedEncoder((number) => void encoded.push(number));
  await storeBlock(encoder, sourceOf(1), { store });
  const sources = [1, 2, 2, 3].map((number) => sourceOf(number));
  const fetched = await fetchBlocks(encoder, sources, { store });
  expect(sources.map((source) => fetched.blocks.get(source))).toEqual([1, 2, 2, 3].map((number) => numberedBlock(number)));
  expect(fetched).toMatchObject({ encoded: 2 * 16, warnings: [] });
  expect(encoded.sort()).toEqual([1, 2, 3]);
  expect((await fetchBlocks(encoder, sources, { store })).encoded).toBe(0);
});

test("many who miss a block at once encode it once", async () => {
  const store = await openHere();
  let encoded = 0;
  const encoder = numberedEncoder(async () => {
    encoded++;
    await sleep(30);
  });
  const made = await Promise.all(Array.from({ length: 20 }, () => storeBlock(encoder, sourceOf(7), { store })));
  expect(made.filter(Boolean)).toHaveLength(1);
  expect(encoded).toBe(1);
});

test("where the one who encodes fails, another takes over", async () => {
  const store = await openHere();
  let attempts = 0;
  const encoder = numberedEncoder(async () => {
    await sleep(10);
    if (attempts++ === 0) throw new Error("out of luck");
  });
  const ends = await Promise.allSettled([1, 2, 3].map(() => storeBlock(encoder, sourceOf(7), { store })));
  expect(ends.filter(({ status }) => status === "rejected")).toHaveLength(1);
  expect(attempts).toBe(2);
  expect(await store.has(encoder.keyOf(sourceOf(7)))).toBe(true);
});

test("who waits for another's block can leave", async () => {
  const store = await openHere();
  const encoder = numberedEncoder();
  const lease = await store.lease!(encoder.keyOf(sourceOf(7)));
  const leave = new AbortController();
  const waiting = fetchBlocks(encoder, [sourceOf(7)], { store, signal: leave.signal });
  setTimeout(() => leave.abort(), 30);
  await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
  await lease!.release();
});

test("a block that cannot be stored is used, and told; precompute's is an error", async () => {
  const store = openStore({ disk: { path: await temporaryFolder(), budget: 10 } });
  onTestFinished(() => store.close());
  const source = sourceOf(5);
  const fetched = await fetchBlocks(numberedEncoder(), [source], { store });
  expect(fetched.blocks.get(source)).toEqual(numberedBlock(5));
  expect(fetched.warnings).toEqual([expect.stringMatching(/could not be stored. The disk budget/)]);
  await expect(storeBlock(numberedEncoder(), source, { store, pinned: true })).rejects.toMatchObject({ code: "no_space" });
});

test("a stored block of another shape, whoever put it there, is told, encoded again, and put anew", async () => {
  const store = await openHere();
  const [source, encoder] = [sourceOf(3), numberedEncoder()];
  const key = encoder.keyOf(source);
  for (const planted of [allocateBlock(likeLayers(2, 1, 24), 15), allocateBlock(likeLayers(1, 1, 48), 16), allocateBlock(likeLayers(2, 2, 12), 16)]) {
    await store.delete([key]);
    await store.put(key, planted);
    const fetched = await fetchBlocks(encoder, [source], { store });
    expect(fetched.blocks.get(source)).toEqual(numberedBlock(3));
    expect(fetched).toMatchObject({ encoded: 16, warnings: [expect.stringMatching(/another shape/)] });
    expect(await fetchBlocks(encoder, [source], { store })).toMatchObject({ encoded: 0, warnings: [] });
  }
});
