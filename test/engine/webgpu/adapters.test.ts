import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { differenceOf, TOLERANCE } from "../../../engine/backend/webgpu/open.js";
import { type AdapterChoice, type Block, type LoadOptions, loadModel, type Model } from "../../../engine/index.js";
import { LINKING, writeGgufAdapter } from "../../support/engine/models/adapter-file.js";
import { largestDifference } from "../../support/engine/reference.js";
import { findVulkan } from "../../support/engine/webgpu/vulkan.js";

const isThere = await findVulkan();
const folder = mkdtempSync(join(tmpdir(), "kvsplice-webgpu-adapters-"));
const opened: Model[] = [];
afterAll(async () => {
  for (const model of opened) await model.close();
  rmSync(folder, { recursive: true });
});

/** The others add nothing: shaders take long to compile if the device computes on the CPU. */
const ALL = process.env["KVSPLICE_TEST_ALL"] === "1";
const EVERY_PASS = [
  ["llama", "llama.cpp's form"],
  ["llama", "PEFT's form"],
  ["qwen2", "PEFT's form"],
] as const;

const TOKENS = [7, 41, 3, 90, 12, 12, 55];
const NEAR = TOLERANCE / 4;
const notices: string[] = [];

async function open(name: string, adapters: readonly AdapterChoice[], device: LoadOptions["device"]): Promise<Model> {
  const options = { path: join(LINKING, `${name}.gguf`), precision: "float32", cacheDir: folder, adapters } as const;
  const model = await loadModel({ ...options, device, onNotice: (notice) => notices.push(notice) });
  opened.push(model);
  return model;
}

/** The model with adapters on both, and without on the processor. */
async function openAll(name: string, adapters: readonly AdapterChoice[]) {
  return {
    device: await open(name, adapters, "webgpu"),
    processor: await open(name, adapters, "cpu"),
    plain: await open(name, [], "cpu"),
  };
}

/** The tiny model's adapter, which is for encoding, as one for every pass. */
function forEveryPass(name: string): string {
  const path = join(folder, `${name}-both`);
  cpSync(join(LINKING, `${name}-adapter`), path, { recursive: true });
  const file = join(path, "adapter_config.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), kvsplice_where: "both" }));
  return path;
}

async function logitsOf(model: Model): Promise<Float32Array> {
  let logits: Float32Array | undefined;
  const plan = { pieces: [{ at: 0, tokens: TOKENS }] };
  for await (const _ of model.generate(plan, { maxNewTokens: 1, onLogits: (all) => (logits ??= all.slice()) })) break;
  return logits!;
}

const relative = (one: Float32Array, other: Float32Array) => largestDifference(one, other) / Math.max(...other.map(Math.abs));
const encoded = (model: Model, adapted: boolean): Promise<Block> => model.encode({ tokens: TOKENS, ...(adapted && { adapted }) });

describe.skipIf(!isThere)("an adapter on a device that WebGPU computes on", () => {
  test.each(ALL ? ["qwen2", "llama", "qwen3"] : ["qwen2"])(
    "of %s for encoding acts on marked blocks, and leaves the others and answers alone",
    async (name) => {
      const adapters = [{ path: join(LINKING, `${name}-adapter`) }];
      const { device, processor, plain } = await openAll(name, adapters);
      const expected = await encoded(processor, true);
      expect(differenceOf(expected, await encoded(device, true))).toBeLessThan(NEAR);
      expect(differenceOf(expected, await encoded(plain, true))).toBeGreaterThan(2 * NEAR);
      expect(differenceOf(await encoded(processor, false), await encoded(device, false))).toBeLessThan(NEAR);
      expect(relative(await logitsOf(device), await logitsOf(plain))).toBeLessThan(NEAR);
    },
  );

  test.each(ALL ? EVERY_PASS : EVERY_PASS.slice(0, 1))(
    "of %s for every pass acts on all blocks and on answers, in %s",
    async (name, form) => {
      const adapters = [{ path: form === "PEFT's form" ? forEveryPass(name) : await writeGgufAdapter(folder, name, 16) }];
      const { device, processor, plain } = await openAll(name, adapters);
      const expected = await encoded(processor, false);
      expect(differenceOf(expected, await encoded(device, false))).toBeLessThan(NEAR);
      expect(differenceOf(expected, await encoded(plain, false))).toBeGreaterThan(2 * NEAR);
      const logits = await logitsOf(processor);
      expect(relative(await logitsOf(device), logits)).toBeLessThan(2 * NEAR);
      expect(relative(await logitsOf(plain), logits)).toBeGreaterThan(4 * NEAR);
    },
  );

  test("no pass fails meanwhile", () => {
    expect(notices).toEqual([]);
  });
});
