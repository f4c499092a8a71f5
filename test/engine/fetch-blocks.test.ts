import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { fetchBlocks, storeBlock } from "../../engine/fetch-blocks.js";
import { openBlockStore, type TieredStore } from "../../engine/index.js";
import { allocateBlock } from "../../engine/kv/block.js";
import { numberedBlock, numberedEncoder, sourceOf } from "../support/engine/numbered-blocks.js";
import { likeLayers } from "../support/engine/plain-kv.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

async function openHere(): Promise<TieredStore> {
  const store = openBlockStore({ disk: { path: await temporaryFolder() } });
  onTestFinished(() => store.close());
  return store;
}

test("stored blocks are read; missing ones are encoded once, stored and reported", async () => {
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

test("many concurrent requests for a missing block encode it once", async () => {
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

test("if the encoder of a block fails, another request takes over", async () => {
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

test("a request waiting for another's block can be cancelled", async () => {
  const store = await openHere();
  const encoder = numberedEncoder();
  const lease = await store.lease!(encoder.keyOf(sourceOf(7)));
  const leave = new AbortController();
  const waiting = fetchBlocks(encoder, [sourceOf(7)], { store, signal: leave.signal });
  setTimeout(() => leave.abort(), 30);
  await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
  await lease!.release();
});

test("any number of requests with one signal can wait for a block, without a warning", async () => {
  const warnings: string[] = [];
  const listener = ({ name }: Error) => void warnings.push(name);
  process.on("warning", listener);
  onTestFinished(() => void process.off("warning", listener));
  const [store, { signal }] = [await openHere(), new AbortController()];
  const encoder = numberedEncoder(() => sleep(30));
  await Promise.all(Array.from({ length: 30 }, () => storeBlock(encoder, sourceOf(7), { store, signal })));
  expect(warnings).toEqual([]);
});

test("a block that cannot be stored is used and reported; in precompute it is an error", async () => {
  const store = openBlockStore({ disk: { path: await temporaryFolder(), budget: 10 } });
  onTestFinished(() => store.close());
  const source = sourceOf(5);
  const fetched = await fetchBlocks(numberedEncoder(), [source], { store });
  expect(fetched.blocks.get(source)).toEqual(numberedBlock(5));
  expect(fetched.warnings).toEqual([expect.stringMatching(/could not be stored. The disk budget/)]);
  await expect(storeBlock(numberedEncoder(), source, { store, pinned: true })).rejects.toMatchObject({ code: "no_space" });
});

test("a stored block of another shape, whoever put it there, is reported, encoded again and replaced", async () => {
  const store = await openHere();
  const [source, encoder] = [sourceOf(3), numberedEncoder()];
  const key = encoder.keyOf(source);
  for (const planted of [
    allocateBlock(likeLayers(2, 1, 24), 15),
    allocateBlock(likeLayers(1, 1, 48), 16),
    allocateBlock(likeLayers(2, 2, 12), 16),
  ]) {
    await store.delete([key]);
    await store.put(key, planted);
    const fetched = await fetchBlocks(encoder, [source], { store });
    expect(fetched.blocks.get(source)).toEqual(numberedBlock(3));
    expect(fetched).toMatchObject({ encoded: 16, warnings: [expect.stringMatching(/does not have the model's shape/)] });
    expect(await fetchBlocks(encoder, [source], { store })).toMatchObject({ encoded: 0, warnings: [] });
  }
});
