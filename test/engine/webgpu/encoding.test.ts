import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlockItem } from "../../../engine/backend/backend.js";
import type { Activations } from "../../../engine/backend/cpu/activations.js";
import { KvCache } from "../../../engine/backend/cpu/cache.js";
import type { NumberType } from "../../../engine/backend/cpu/number-type.js";
import { BatchSession } from "../../../engine/backend/webgpu/batch-session.js";
import { hardware } from "../../../engine/backend/webgpu/devices.js";
import { differenceOf, TOLERANCE } from "../../../engine/backend/webgpu/open.js";
import { trial } from "../../../engine/backend/webgpu/trial.js";
import { loadModel, type Model, openStore } from "../../../engine/index.js";
import { type Block, GROUP_TOKENS, type Int8Block } from "../../../engine/kv/block.js";
import { readSpec } from "../../../engine/model/arch/index.js";
import type { ModelFile } from "../../../engine/model/files/model-file.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import type { ModelSpec } from "../../../engine/model/spec.js";
import { type BatchEncoder, openBatchEncoder } from "../../support/engine/batch-encoder.js";
import { withRunner } from "../../support/engine/models/computed.js";
import { writeTiny } from "../../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS, type TinyModel } from "../../support/engine/models/tiny-models.js";
import { largestDifference } from "../../support/engine/reference.js";
import { DOCUMENTS, OVER_DOCUMENTS } from "../../support/engine/webgpu/documents.js";
import { findVulkan } from "../../support/engine/webgpu/vulkan.js";

const isThere = await findVulkan();
const tried = isThere ? await trial("webgpu") : undefined;
const hasHalf = tried !== undefined && !("error" in tried) && tried.type === "float16";
const folder = mkdtempSync(join(tmpdir(), "kvsplice-webgpu-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Models that together cover the device's graph: windows, two bases, soft-caps, norms, partial rotation, no rotary. */
const FAMILIES = ["gemma2", "gemma3, linear scaling", "phi3, LongRoPE of a part of each head", "smollm3", "olmo2, windows and YaRN"];

/** The other families, which add nothing: shaders take long to compile if the device computes on the CPU. */
const OTHERS = ["qwen2", "llama, YaRN", "llama, heads of 20", "qwen3", "mistral3", "gemma", "granite"];
const ALL = process.env["KVSPLICE_TEST_ALL"] === "1";

const EXACT = { activations: "float32", type: "float32" } as const;

/** Blocks of several lengths, some longer than the windows; one with gaps between its positions, one after tokens that it sees. */
const BLOCKS: readonly BlockItem[] = [
  { tokens: PROMPT.slice(0, 24), positions: PROMPT.slice(0, 24).map((_, i) => i), from: 0 },
  { tokens: PROMPT.slice(3, 24), positions: PROMPT.slice(3, 24).map((_, i) => (i < 9 ? i : i + 5)), from: 0 },
  { tokens: PROMPT.slice(18), positions: PROMPT.slice(18).map((_, i) => i), from: 12 },
];

/** A block in 8 bits, as the processor makes it of the same values. */
function rounded(block: Block): Int8Block {
  const form = { layers: block.layers.map((layer) => ({ ...layer, kind: "kv", rotary: undefined }) as const) };
  const cache = new KvCache(form, []);
  cache.splice(block, new Int32Array(block.tokens));
  return cache.extract(0, block.tokens, "int8") as Int8Block;
}

type Opened = { readonly device: BatchEncoder; readonly file: ModelFile; readonly spec: ModelSpec };

/** Gives an encoder of a tiny model to `use`. */
async function withDevice<T>(
  name: string,
  model: TinyModel,
  { activations, type }: { readonly activations: Activations; readonly type: NumberType },
  use: (opened: Opened) => Promise<T>,
): Promise<T> {
  const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
  writeTiny(path, model);
  const file = openModelFile(path);
  const spec = readSpec(file);
  const able = { type, fused: true };
  const device = await openBatchEncoder({ file, spec, id: `${name} ${activations}`, cacheDir: folder, activations, adapters: [], able });
  try {
    return await use({ device, file, spec });
  } finally {
    await device.close();
    file.close();
  }
}

/** The largest difference between the blocks and those of the processor. */
function differenceIn(name: string, model: TinyModel, activations: Activations, type: NumberType): Promise<number> {
  return withDevice(name, model, { activations, type }, async ({ device, file, spec }) => {
    const found = await device.encode({ items: BLOCKS, precision: "float32" });
    return withRunner(file, spec, activations, async (processor, createCache) => {
      const differences: number[] = [];
      for (const [i, { tokens, positions, from }] of BLOCKS.entries()) {
        const cache = createCache();
        cache.reserve(tokens.length);
        await processor.run([{ cache, tokens, positions, logits: 1 }]);
        differences.push(differenceOf(cache.extract(from, tokens.length, "float32"), found[i]!));
      }
      return Math.max(...differences);
    });
  });
}

describe.skipIf(!isThere)("a device that WebGPU computes on", () => {
  test.each([...FAMILIES, ...(ALL ? OTHERS : [])])("encodes blocks of %s in a batch to the processor's KV", async (name) => {
    expect(await differenceIn(name, TINY_MODELS[name]!, "float32", "float32")).toBeLessThan(1e-5);
  });

  test("packs blocks in 8 bits as the processor does, with several groups of tokens and with none of what they see", async () => {
    const tokens = Array.from({ length: 2 * GROUP_TOKENS + 7 }, (_, i) => PROMPT[i % PROMPT.length]!);
    const item = { tokens, positions: [...tokens.keys()], from: 5 };
    const blocks = [item, ...BLOCKS];
    const [exact, packed] = await withDevice("packing", TINY_MODELS["llama"]!, EXACT, async ({ device }) => [
      await device.encode({ items: blocks, precision: "float32" }),
      await device.encode({ items: blocks, precision: "int8" }),
    ]);
    exact!.forEach((block, i) => {
      const expected = rounded(block);
      const found = packed![i] as Int8Block;
      for (const name of ["k", "v"] as const) {
        const most = Math.max(...found[name].map((code, at) => Math.abs(code - expected[name][at]!)));
        expect(most).toBeLessThanOrEqual(1);
      }
      for (const name of ["kScales", "vScales"] as const)
        expect(largestDifference(found[name], expected[name])).toBeLessThan(1e-6 * Math.max(...expected[name]));
    });
  });

  test.each([...FAMILIES, ...(ALL ? OTHERS : [])])(
    "encodes blocks of %s with everything rounded to 8 bits within the tolerance",
    async (name) => {
      const difference = await differenceIn(name, { ...TINY_MODELS[name]!, type: "Q8_0" }, "int8", "float32");
      expect(difference).toBeGreaterThan(0);
      expect(difference).toBeLessThan(TOLERANCE / 4);
    },
  );

  test.skipIf(!hasHalf).each([...FAMILIES, ...(ALL ? OTHERS : [])])(
    "encodes blocks of %s in float16 within the tolerance (skipped if the device has no float16)",
    async (name) => {
      const difference = await differenceIn(name, { ...TINY_MODELS[name]!, type: "Q4_0" }, "int8", "float16");
      expect(difference).toBeGreaterThan(0);
      expect(difference).toBeLessThan(TOLERANCE / 4);
    },
  );
});

test("a model whose weights exceed the memory limit is refused", async () => {
  const path = join(folder, "large.gguf");
  writeTiny(path, TINY_MODELS["llama"]!);
  const file = openModelFile(path);
  const options = {
    file,
    spec: readSpec(file),
    id: "large",
    cacheDir: folder,
    activations: "int8",
    adapters: [],
    able: { type: "float32", fused: true },
    memory: 1000,
  } as const;
  await expect(BatchSession.open(options)).rejects.toMatchObject({
    code: "bad_argument",
    message: expect.stringMatching(/^The weights of .* take .* Raise --device-memory/),
  });
  file.close();
});

describe.skipIf(!isThere)("a model that encodes on a device", () => {
  const notices: string[] = [];
  const path = join(folder, "whole.gguf");
  const options = {
    path,
    cacheDir: folder,
    activations: "float32",
    precision: "float32",
    onNotice: (notice: string) => notices.push(notice),
  } as const;
  let [device, processor] = [] as unknown as [Model, Model];

  beforeAll(async () => {
    writeTiny(path, TINY_MODELS["qwen3"]!);
    device = await loadModel({ ...options, device: "webgpu" });
    processor = await loadModel(options);
  });
  afterAll(async () => {
    await device.close();
    await processor.close();
  });

  test("has the processor's id and keys, so that both share a store and a queue", () => {
    expect(device.id).toBe(processor.id);
    expect(DOCUMENTS.map((tokens) => device.keyOf({ tokens }))).toEqual(DOCUMENTS.map((tokens) => processor.keyOf({ tokens })));
  });

  test("answers over its own blocks, and over a store with blocks of both, like the processor", async () => {
    const store = openStore({ memory: { budget: 2 ** 24 } });
    const first = { tokens: DOCUMENTS[0]! };
    await store.put(device.keyOf(first), await device.encode(first), { model: device.name });
    const expected = await processor.logits(OVER_DOCUMENTS);
    const near = 1e-4 * Math.max(...expected.map(Math.abs));
    expect(largestDifference(await device.logits(OVER_DOCUMENTS), expected)).toBeLessThan(near);
    expect(largestDifference(await processor.logits(OVER_DOCUMENTS, { store }), expected)).toBeLessThan(near);
    expect(notices).toEqual([]);
    await store.close();
  });

  test.skipIf(hardware()?.gpus.length !== 0)("is not opened by auto without a graphics processor", async () => {
    await using model = await loadModel({ ...options, device: "auto" });
    expect(model.encodesAtOnce).toBe(1);
    expect(notices.splice(0)).toEqual([expect.stringMatching(/^Everything is computed on the processor\. There is no graphics processor/)]);
  });
});

test.runIf(process.platform === "linux")(
  "without a driver, webgpu is an error that says so, and auto uses the processor and reports it",
  async () => {
    const path = join(folder, "none.gguf");
    writeTiny(path, TINY_MODELS["llama"]!);
    const known = { files: process.env["VK_DRIVER_FILES"], names: process.env["VK_ICD_FILENAMES"] };
    process.env["VK_DRIVER_FILES"] = process.env["VK_ICD_FILENAMES"] = join(folder, "none.json");
    try {
      await expect(loadModel({ path, cacheDir: folder, device: "webgpu" })).rejects.toMatchObject({
        code: "bad_argument",
        message: expect.stringMatching(/^WebGPU does not work here: .*--device cpu/),
      });
      const notices: string[] = [];
      await using model = await loadModel({ path, cacheDir: folder, device: "auto", onNotice: (notice) => notices.push(notice) });
      expect(model.encodesAtOnce).toBe(1);
      expect(notices).toEqual([expect.stringMatching(/^Everything is computed on the processor\. /)]);
    } finally {
      for (const [name, value] of [
        ["VK_DRIVER_FILES", known.files],
        ["VK_ICD_FILENAMES", known.names],
      ] as const) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  },
);
