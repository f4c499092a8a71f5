import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Backend, Cache } from "../../../engine/backend/backend.js";
import { CpuBackend } from "../../../engine/backend/cpu/backend.js";
import { DeviceBackend } from "../../../engine/backend/webgpu/device-backend.js";
import { kvBytesOf, roomWithin, SAMPLE_TOKENS } from "../../../engine/backend/webgpu/memory.js";
import { PromptDevice } from "../../../engine/backend/webgpu/prompt-device.js";
import { type Block, blockBytes } from "../../../engine/kv/block.js";
import { readSpec } from "../../../engine/model/arch/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import { writeTiny } from "../../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../../support/engine/models/tiny-models.js";
import { largestDifference } from "../../support/engine/reference.js";
import { SimulatedDevice } from "../../support/engine/webgpu/simulated-device.js";

const folder = mkdtempSync(join(tmpdir(), "kvsplice-prompts-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "tiny.gguf");
writeTiny(path, TINY_MODELS["qwen3"]!);
const file = openModelFile(path);
const spec = readSpec(file);
afterAll(() => file.close());

type Made = {
  readonly backend: DeviceBackend;
  readonly processor: Backend;
  readonly device: SimulatedDevice;
  readonly prompts: PromptDevice;
  readonly notices: readonly string[];
};

type Options = { readonly kvBytes?: number; readonly fails?: (name: string, call: number) => boolean; readonly refused?: boolean };

async function withDevice<T>({ kvBytes, fails, refused }: Options, use: (made: Made) => Promise<T>): Promise<T> {
  const graphs = { path, quantize: undefined, spec, id: "tiny", cacheDir: folder } as const;
  const processor = await CpuBackend.open({ ...graphs, adapters: [], activations: "float32" });
  const notices: string[] = [];
  const device = new SimulatedDevice(processor, (name, call) => {
    if (fails?.(name, call)) throw new Error("device lost");
  });
  const check = async () => {
    if (refused) throw new Error("it computes something else");
  };
  const prompts = new PromptDevice(device, kvBytesOf(spec), { kvBytes, several: true }, check, (notice) => notices.push(notice));
  try {
    return await use({ backend: new DeviceBackend(prompts, processor, true), processor, device, prompts, notices });
  } finally {
    await processor.close();
  }
}

const upTo = (count: number, from = 0) => Int32Array.from({ length: count }, (_, i) => from + i);

async function blockOf(backend: Backend, tokens: readonly number[]): Promise<Block> {
  const cache = backend.createCache();
  await cache.reserve(tokens.length);
  await backend.run([{ cache, tokens, positions: [...upTo(tokens.length)], logits: 0 }]);
  const block = await cache.extract(0, tokens.length, "int8");
  cache.free();
  return block;
}

/** Everything that a cache does; returns what was computed. */
async function prompted(backend: Backend, [one, two]: readonly [Block, Block]): Promise<Float32Array> {
  const cache: Cache = backend.createCache();
  await cache.reserve(12);
  await Promise.all([cache.splice(one, upTo(8, 3), [[2, 4]]), cache.splice(two, upTo(6, 20))]);
  const tokens = PROMPT.slice(20, 26);
  const positions = [...upTo(6, 40)];
  const first = await backend.run([{ cache, tokens, positions, visible: { counts: [2, 4, 6, 8, 10, 12], shared: 12 }, logits: 6 }]);
  cache.truncate(15);
  cache.truncate(9); // within the second block
  await cache.splice(one, upTo(8, 60), [[0, 7]]);
  const found = await backend.run([{ cache, tokens: tokens.slice(0, 3), positions: [70, 71, 75], logits: 2 }]);
  const looks = await backend.look({ cache, tokens: tokens.slice(3, 5), positions: [80, 81], logits: 0 }, [1, 2]);
  const kept = await cache.extract(2, 12, "float32");
  expect(cache.length).toBe(13);
  cache.free();
  return Float32Array.from([...first[0]!, ...found[0]!, ...looks, ...(kept.k as Float32Array), ...(kept.v as Float32Array)]);
}

const blocksOf = async (backend: Backend) =>
  [await blockOf(backend, PROMPT.slice(0, 8)), await blockOf(backend, PROMPT.slice(8, 14))] as const;

describe("prompts on a device", () => {
  test("are computed there and freed", async () => {
    await withDevice({}, async ({ backend, processor, device, notices }) => {
      const blocks = await blocksOf(processor);
      expect(largestDifference(await prompted(backend, blocks), await prompted(processor, blocks))).toBeLessThan(1e-4);
      expect(device.asked.filter((name) => name === "splice")).toHaveLength(2); // two blocks at once, and one later
      await new Promise(setImmediate);
      expect(device.held).toEqual({ prompts: 0, blocks: 2 });
      expect(device.asked.filter((name) => name === "run")).toHaveLength(2);
      expect(notices).toEqual([]);
    });
  });

  test("are continued by the processor with the same results, whichever call fails", async () => {
    await withDevice({}, async ({ backend, processor, device }) => {
      const blocks = await blocksOf(processor);
      const expected = await prompted(processor, blocks);
      await prompted(backend, blocks);
      const calls = device.asked.filter((name) => name !== "free" && name !== "truncate").length;
      expect(calls).toBeGreaterThan(8);
      for (let failing = 0; failing < calls; failing++) {
        let call = -1;
        await withDevice({ fails: (name) => name !== "free" && name !== "truncate" && ++call === failing }, async (made) => {
          const found = await prompted(made.backend, await blocksOf(made.processor));
          expect(largestDifference(found, expected)).toBeLessThan(1e-4);
          expect(made.notices).toEqual([expect.stringMatching(/^The device (failed|is lost).* device lost$/)]);
        });
      }
    });
  });

  test("are computed on the device again after one failure, and never again after two in a row", async () => {
    let failing = 1;
    await withDevice({ fails: (name) => name === "run" && failing-- > 0 }, async ({ backend, processor, device, notices }) => {
      const pass = { tokens: [5, 6], positions: [0, 1], logits: 1 };
      const [expected] = await processor.run([{ ...pass, cache: processor.createCache() }]);
      const passes = async () => {
        const cache = backend.createCache();
        await cache.reserve(4);
        expect(largestDifference((await backend.run([{ ...pass, cache }]))[0]!, expected!)).toBeLessThan(1e-4);
        return device.asked.filter((name) => name === "run").length;
      };
      expect(await passes()).toBe(1);
      expect(await passes()).toBe(2);
      failing = 2;
      expect(await passes()).toBe(3);
      expect(await passes()).toBe(4);
      failing = 0;
      expect(await passes()).toBe(4);
      expect(notices.map((notice) => notice.split(",")[0])).toEqual(["The device failed", "The device failed", "The device is lost"]);
    });
  });

  test("are continued by the processor if an encoding adapter acts on some tokens, which the device has no weights for", async () => {
    await withDevice({}, async ({ backend, processor, device, notices }) => {
      const one = { tokens: [5, 6], positions: [0, 1], logits: 0 };
      const two = { tokens: [7], positions: [2], logits: 1, adapted: true };
      const [cache, expected] = [backend.createCache(), processor.createCache()];
      for (const each of [cache, expected]) await each.reserve(4);
      await processor.run([{ ...one, cache: expected }]);
      const [logits] = await processor.run([{ ...two, cache: expected }]);
      await backend.run([{ ...one, cache }]);
      expect(largestDifference((await backend.run([{ ...two, cache }]))[0]!, logits!)).toBeLessThan(1e-4);
      expect(device.asked.filter((name) => name === "run")).toHaveLength(1);
      expect(notices).toEqual([]);
    });
  });

  test("are computed on the processor once the device is known to be lost", async () => {
    await withDevice({}, async ({ backend, prompts, device }) => {
      prompts.giveUp();
      const cache = backend.createCache();
      await cache.reserve(4);
      await backend.run([{ cache, tokens: [5, 6], positions: [0, 1], logits: 1 }]);
      expect(cache.length).toBe(2);
      expect(device.asked).toEqual([]);
    });
  });

  test("are computed together, on the device or on the processor, whatever moved before", async () => {
    let failing = 0;
    await withDevice({ fails: (name) => name === "run" && failing-- > 0 }, async ({ backend, processor, device }) => {
      const widened = async () => {
        backend.widen();
        await new Promise((resolve) => setTimeout(resolve, 10));
      };
      const caches = [0, 1, 2].map(() => backend.createCache());
      const passes = async (at: number) => {
        const parts = caches.map((cache, i) => ({ cache, tokens: [5 + at, 6 + i], positions: [at, at + 1], logits: 1 }));
        return backend.run(parts);
      };
      const expected: Float32Array[][] = [];
      const own = caches.map(() => processor.createCache());
      for (const at of [0, 2, 4, 6]) {
        const found: Float32Array[] = [];
        for (const [i, cache] of own.entries())
          found.push((await processor.run([{ cache, tokens: [5 + at, 6 + i], positions: [at, at + 1], logits: 1 }]))[0]!.slice());
        expected.push(found);
      }
      const mustEqual = (found: readonly Float32Array[], step: number) =>
        found.forEach((logits, i) => expect(largestDifference(logits, expected[step]![i]!)).toBeLessThan(1e-4));
      await Promise.all(caches.map((cache) => cache.reserve(8)));
      await widened();
      expect(backend.slots).toBeGreaterThan(1);
      mustEqual(await passes(0), 0);
      expect(device.asked.filter((name) => name === "run")).toHaveLength(1);
      failing = 1;
      mustEqual([...(await backend.run([{ cache: caches[0]!, tokens: [7, 6], positions: [2, 3], logits: 1 }]))], 1);
      const others = caches.slice(1).map((cache, i) => ({ cache, tokens: [7, 7 + i], positions: [2, 3], logits: 1 }));
      (await backend.run(others)).forEach((logits, i) => expect(largestDifference(logits, expected[1]![i + 1]!)).toBeLessThan(1e-4));
      mustEqual(await passes(4), 2);
      failing = 2;
      mustEqual(await passes(6), 3);
    });
  });

  test("return to the device when a cache that the processor took over is emptied", async () => {
    let failing = true;
    await withDevice({ fails: (name) => name === "run" && failing }, async ({ backend, device }) => {
      const cache = backend.createCache();
      await cache.reserve(4);
      const pass = { cache, tokens: [5, 6], positions: [0, 1], logits: 1 };
      const [moved] = await backend.run([pass]);
      failing = false;
      cache.truncate(0);
      await cache.reserve(4);
      const [again] = await backend.run([pass]);
      expect(device.asked.filter((name) => name === "run")).toHaveLength(2);
      expect(largestDifference(again!, moved!)).toBeLessThan(1e-4);
    });
  });

  test("are all computed on the processor if the device does not compute the same, and a notice says so", async () => {
    await withDevice({ refused: true }, async ({ backend, processor, device, notices }) => {
      const blocks = await blocksOf(processor);
      await prompted(backend, blocks);
      await prompted(backend, blocks);
      expect(device.asked).toEqual(["answer"]);
      expect(notices).toEqual([expect.stringMatching(/^The device is lost, .*: it computes something else$/)]);
    });
  });

  test("keep the blocks used last within the memory, and go to the processor if there is no room, which is said once", async () => {
    const row = kvBytesOf(spec);
    await withDevice({ kvBytes: 40 * row }, async ({ backend, processor, device, notices }) => {
      const blocks = await blocksOf(processor);
      const cache = backend.createCache();
      await cache.reserve(30);
      for (const block of [...blocks, ...blocks]) await cache.splice(block, upTo(block.tokens));
      expect(device.asked.filter((name) => name === "upload")).toHaveLength(2);
      expect(blockBytes(blocks[0])).toBeLessThan(10 * row);
      for (let i = 0; i < 2; i++) {
        const other = backend.createCache();
        await other.reserve(12);
        await other.splice(blocks[0], upTo(8));
        expect(other.length).toBe(8);
      }
      expect(device.held).toEqual({ prompts: 1, blocks: 0 });
      expect(notices).toEqual([expect.stringMatching(/^The device's memory is full/)]);
    });
  });
});

test("a limit on a device's memory is shared between encoding and answering, or all for encoding if both do not fit", () => {
  const weights = 100e6;
  const able = { type: "float32", fused: true } as const;
  const room = (memory: number | undefined, answers: boolean) => roomWithin({ spec, able, memory, answers }, weights);
  expect(room(undefined, true)).toEqual({ mostTokens: 4096, kvBytes: undefined, several: true });
  expect(room(undefined, false).kvBytes).toBe(0);
  expect(room(900e6, true)).toMatchObject({ kvBytes: 200e6, several: true });
  expect(room(501e6, true)).toMatchObject({ kvBytes: 50.5e6, several: false });
  expect(room(401e6, true)).toMatchObject({ kvBytes: 0 });
  expect(room(800e6, false).mostTokens).toBeGreaterThanOrEqual(room(800e6, true).mostTokens);
});

test("a limit is refused, whatever it leaves besides the weights, unless the block that opens a device fits into a pass", () => {
  const able = { type: "float32", fused: true } as const;
  for (const answers of [false, true])
    for (let memory = 2 ** 16; memory < 2 ** 26; memory *= 2) {
      let room: ReturnType<typeof roomWithin> | undefined;
      try {
        room = roomWithin({ spec, able, memory, answers }, 2 ** 17);
      } catch (error) {
        expect((error as Error).message).toMatch(/ take 128 KiB .* only \d+(\.\d)? [KM]iB may be used\. Raise --device-memory/);
      }
      if (room) expect(room.mostTokens).toBeGreaterThanOrEqual(SAMPLE_TOKENS);
      else expect(memory).toBeLessThan(2 ** 25);
    }
});
