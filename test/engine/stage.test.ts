import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { Stage } from "../../engine/backend/thread/stage.js";
import { type Block, blockBytes } from "../../engine/kv/block.js";
import { randomBlock } from "../support/engine/random-block.js";

/** Reads that end on request. */
function readings() {
  const begun: Block[] = [];
  const ends: (() => void)[] = [];
  const read = (copy: Block) => {
    begun.push(copy);
    return new Promise<void>((resolve) => ends.push(resolve));
  };
  return { begun, ends, read };
}

const TOKENS = 5;
const BYTES = blockBytes(randomBlock(TOKENS));

test("a block is read from an exact copy in shared memory", async () => {
  const block = randomBlock(TOKENS);
  await new Stage().show(block, async (copy) => {
    expect(copy).toEqual(block);
    expect(copy.k.buffer).toBeInstanceOf(SharedArrayBuffer);
  });
});

test("shows as many blocks as there is room for, in order, and the next when one has been read", async () => {
  const stage = new Stage(2 * BYTES + 1);
  const blocks = Array.from({ length: 4 }, () => randomBlock(TOKENS));
  const { begun, ends, read } = readings();
  const all = Promise.all(blocks.map((block) => stage.show(block, read)));
  await setImmediate();
  expect(begun).toEqual(blocks.slice(0, 2));
  ends[1]!();
  await setImmediate();
  expect(begun).toHaveLength(3);
  // Blocks still being read were not overwritten; the memory of the one that was read went to the third.
  expect(begun[0]).toEqual(blocks[0]);
  expect(begun[2]!.k.buffer).toBe(begun[1]!.k.buffer);
  ends[0]!();
  await setImmediate();
  ends[2]!();
  ends[3]!();
  await all;
});

test("a block shown several times at once is copied once", async () => {
  const stage = new Stage();
  const block = randomBlock(TOKENS);
  const { begun, ends, read } = readings();
  const all = Promise.all([stage.show(block, read), stage.show(block, read)]);
  await setImmediate();
  expect(begun[1]!.k.buffer).toBe(begun[0]!.k.buffer);
  ends.forEach((end) => end());
  await all;
});

test("a block larger than the stage is shown alone, and its memory is not kept", async () => {
  const stage = new Stage(BYTES);
  const [small, large] = [randomBlock(TOKENS), randomBlock(3 * TOKENS)];
  const { begun, ends, read } = readings();
  const all = Promise.all([stage.show(large, read), stage.show(small, read)]);
  await setImmediate();
  expect(begun).toEqual([large]);
  ends[0]!();
  await setImmediate();
  expect(begun).toEqual([large, small]);
  expect(begun[1]!.k.buffer.byteLength).toBe(BYTES);
  ends[1]!();
  await all;
});

test("a failing read throws, and frees its place for the next", async () => {
  const stage = new Stage(BYTES);
  const failing = stage.show(randomBlock(TOKENS), async () => Promise.reject(new Error("no")));
  const next = stage.show(randomBlock(TOKENS), async () => "read");
  await expect(failing).rejects.toThrow("no");
  expect(await next).toBe("read");
});
