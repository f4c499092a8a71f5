import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KvCache } from "../../../engine/backend/cpu/cache.js";
import type { PassRunner } from "../../../engine/backend/cpu/pass.js";
import { differenceOf } from "../../../engine/backend/webgpu/open.js";
import { type DeviceBlock, type DeviceRows, type DeviceSplice, PromptPasses } from "../../../engine/backend/webgpu/prompt-passes.js";
import { trial } from "../../../engine/backend/webgpu/trial.js";
import type { Computes } from "../../../engine/backend/webgpu/trial-passes.js";
import { loadModel, type Model, openStore, type Plan } from "../../../engine/index.js";
import type { Precision } from "../../../engine/kv/block.js";
import { readSpec } from "../../../engine/model/arch/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import { keptRuns, type Range } from "../../../plan/index.js";
import { withRunner } from "../../support/engine/models/computed.js";
import { writeTiny } from "../../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../../support/engine/models/tiny-models.js";
import { largestDifference } from "../../support/engine/reference.js";
import { OVER_DOCUMENTS } from "../../support/engine/webgpu/documents.js";
import { findVulkan } from "../../support/engine/webgpu/vulkan.js";

const isThere = await findVulkan();
const able = (await trial("webgpu")) as Computes;
const folder = mkdtempSync(join(tmpdir(), "kvsplice-answering-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Both kinds of attention, masked and not: fused, and with soft-caps and windows. */
const FAMILIES = ["qwen3", "gemma2"];

/** Other families, with rotations of a part of each head or none in some layers: shaders take long to compile on the CPU. */
const OTHERS = [
  "phi3, LongRoPE of a part of each head",
  "smollm3",
  "qwen2",
  "llama, heads of 20",
  "llama, one KV head",
  "mistral3",
  "gemma",
  "gemma3, linear scaling",
  "granite",
  "olmo2, windows and YaRN",
];
const ALL = process.env["KVSPLICE_TEST_ALL"] === "1";

const NEAR = 1e-4;
const ROOM = 64;

/** Computes the same on the device and on the processor, and compares. */
class Pair {
  private constructor(
    private readonly device: PromptPasses,
    private readonly processor: PassRunner,
    private readonly createCache: () => KvCache,
    readonly cache: KvCache,
    private rows: DeviceRows,
  ) {}

  /** @param fused whether the device's fused attention kernel is used; it is right for fewer than 32 tokens at once everywhere */
  static async of(name: string, use: (pair: Pair) => Promise<void>, fused = true): Promise<void> {
    const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
    writeTiny(path, TINY_MODELS[name]!);
    const file = openModelFile(path);
    const spec = readSpec(file);
    const device = await PromptPasses.open({
      file,
      spec,
      id: name,
      cacheDir: folder,
      activations: "float32",
      adapters: [],
      able: { type: "float32", fused },
    });
    try {
      await withRunner(file, spec, "float32", async (runner, createCache) => {
        const cache = createCache();
        cache.reserve(ROOM);
        const pair = new Pair(device, runner, createCache, cache, await device.grown(device.empty(), 16));
        await use(pair);
        device.free(pair.rows);
      });
    } finally {
      await device.close();
      file.close();
    }
  }

  async pass(tokens: readonly number[], at: number | readonly number[], visible?: { counts: readonly number[]; shared: number }) {
    const positions = typeof at === "number" ? tokens.map((_, i) => at + i) : at;
    const part = { tokens, positions, visible, logits: tokens.length };
    if (this.rows.length + tokens.length > this.rows.capacity) this.rows = await this.device.grown(this.rows, ROOM);
    const expected = (await this.processor.run([{ ...part, cache: this.cache }]))[0]!.slice();
    const [found] = await this.device.run([{ ...part, cache: this.rows }]);
    expect(largestDifference(found!, expected) / Math.max(...expected.map(Math.abs))).toBeLessThan(NEAR);
  }

  /** A second prompt, and one pass over both, with and without a mask. */
  async together(one: readonly number[], two: readonly number[]): Promise<void> {
    await this.device.widen();
    this.rows = await this.device.grown(this.rows, ROOM);
    const cache = this.createCache();
    cache.reserve(ROOM);
    const rows = await this.device.grown(this.device.empty(), ROOM);
    const at = (from: number, tokens: readonly number[]) => ({ tokens, positions: tokens.map((_, i) => from + i) });
    await this.processor.run([{ ...at(3, two), cache, logits: 0 }]);
    await this.device.run([{ ...at(3, two), cache: rows, logits: 0 }]);
    for (const visible of [undefined, { counts: one.map(() => 2), shared: this.cache.length }]) {
      const first = { ...at(80, one), visible, logits: 1 };
      const second = { ...at(40, two.slice(0, 1)), logits: 1 };
      const expected: Float32Array[] = [];
      for (const part of [
        { ...first, cache: this.cache },
        { ...second, cache },
      ])
        expected.push((await this.processor.run([part]))[0]!.slice());
      const found = await this.device.run([
        { ...first, cache: this.rows },
        { ...second, cache: rows },
      ]);
      expected.forEach((logits, i) => expect(largestDifference(found[i]!, logits) / Math.max(...logits.map(Math.abs))).toBeLessThan(NEAR));
    }
    const [kept, own] = [cache.extract(0, cache.length, "float32"), await this.device.extract(rows, 0, cache.length, "float32")];
    expect(differenceOf(kept, own)).toBeLessThan(1e-5);
    this.device.free(rows);
  }

  /** What tokens attend to. */
  async look(tokens: readonly number[], at: number): Promise<void> {
    const part = { tokens, positions: tokens.map((_, i) => at + i), logits: 0 };
    const asks = tokens.map((_, i) => 1 + i);
    if (this.rows.length + tokens.length > this.rows.capacity) this.rows = await this.device.grown(this.rows, ROOM);
    const expected = (await this.processor.look({ ...part, cache: this.cache }, asks)).slice();
    const found = await this.device.look({ ...part, cache: this.rows }, asks);
    expect(found.length).toBe(expected.length);
    expect(largestDifference(found, expected) / Math.max(...expected)).toBeLessThan(NEAR);
  }

  /** Splices rows `[from, to)` again, elsewhere. */
  async splice([from, to]: Range, at: number, precision: Precision, omit: readonly Range[] = []): Promise<void> {
    const block = this.cache.extract(from, to, precision);
    const positions = Int32Array.from({ length: block.tokens }, (_, i) => at + i);
    this.cache.splice(block, positions, omit);
    if (this.cache.length > this.rows.capacity) this.rows = await this.device.grown(this.rows, ROOM);
    const held: DeviceBlock = await this.device.upload(block);
    await this.device.splice(this.rows, [{ block: held, positions, kept: keptRuns(block.tokens, omit) }]);
    this.device.drop(held);
  }

  /** Splices rows again, several runs of them at once. */
  async spliceAll(runs: readonly { rows: Range; at: number; omit: readonly Range[] }[]): Promise<void> {
    this.rows = await this.device.grown(this.rows, ROOM);
    const splices: DeviceSplice[] = [];
    const length = this.cache.length;
    for (const { rows, at, omit } of runs) {
      const block = this.cache.extract(...rows, "int8");
      const positions = Int32Array.from({ length: block.tokens }, (_, i) => at + i);
      this.cache.splice(block, positions, omit);
      splices.push({ block: await this.device.upload(block), positions, kept: keptRuns(block.tokens, omit) });
    }
    await this.device.splice(this.rows, splices);
    expect(this.rows.length - length).toBe(this.cache.length - length);
    for (const { block } of splices) this.device.drop(block);
  }

  /** How far the device's rows are from the processor's. */
  async difference(from: number, to: number): Promise<number> {
    return differenceOf(this.cache.extract(from, to, "float32"), await this.device.extract(this.rows, from, to, "float32"));
  }

  truncate(length: number): void {
    this.cache.truncate(length);
    this.rows.length = length;
  }
}

describe.skipIf(!isThere)("a prompt whose KV is on the device", () => {
  test.each([...FAMILIES, ...(ALL ? OTHERS : [])])("of %s has the processor's logits and rows, whatever it is made of", async (name) => {
    await Pair.of(name, async (pair) => {
      await pair.pass(
        PROMPT.slice(0, 14),
        PROMPT.slice(0, 14).map((_, i) => (i < 9 ? i : i + 5)),
      );
      await pair.splice([2, 13], 25, "int8", [[3, 5]]); // needs more room
      expect(await pair.difference(14, 23)).toBeLessThan(1e-5);
      await pair.pass(PROMPT.slice(14, 20), 40);
      await pair.pass(PROMPT.slice(20, 21), 46);
      pair.truncate(20);
      await pair.look(PROMPT.slice(3, 6), 50);
      await pair.pass(PROMPT.slice(3, 7), 50, { counts: [3, 8, 15, 20], shared: 20 });
      await pair.pass(PROMPT.slice(8, 9), 54, { counts: [9], shared: 20 });
      expect(await pair.difference(3, 25)).toBeLessThan(1e-5);
    });
  });

  test.each(["llama", "gemma3"])(
    "of %s has the processor's logits after many tokens at once, if the device can attend so",
    async (name) => {
      await Pair.of(name, (pair) => pair.pass(PROMPT, 0), able.fused);
    },
  );

  test.each(["qwen3", "gemma2"])("of %s has the same logits in a pass over several prompts", async (name) => {
    await Pair.of(name, async (pair) => {
      await pair.pass(PROMPT.slice(0, 14), 0);
      await pair.together(PROMPT.slice(20, 23), PROMPT.slice(5, 14));
    });
  });

  test.each(["qwen3", "gemma3, linear scaling"])("of %s has several blocks spliced at once, as many as there are", async (name) => {
    await Pair.of(name, async (pair) => {
      await pair.pass(PROMPT.slice(0, 14), 0);
      await pair.spliceAll([
        { rows: [2, 9], at: 30, omit: [] },
        { rows: [5, 14], at: 50, omit: [[2, 4]] },
        { rows: [0, 3], at: 70, omit: [[0, 1]] },
      ]);
      expect(await pair.difference(14, 30)).toBeLessThan(1e-6);
      await pair.pass(PROMPT.slice(14, 16), 80);
      pair.truncate(14);
      await pair.spliceAll(Array.from({ length: 18 }, (_, i) => ({ rows: [i % 12, (i % 12) + 2], at: 30 + 3 * i, omit: [] })));
      expect(await pair.difference(14, 50)).toBeLessThan(1e-6);
    });
  });

  test("has spliced blocks exactly as the processor splices them, in each precision", async () => {
    await Pair.of("qwen3", async (pair) => {
      await pair.pass(PROMPT.slice(0, 14), 0);
      pair.truncate(14);
      for (const precision of ["int8", "float16", "float32"] as const) {
        await pair.splice([2, 13], 30, precision);
        expect(await pair.difference(pair.cache.length - 11, pair.cache.length)).toBeLessThan(1e-6);
      }
    });
  });
});

describe.skipIf(!isThere)("a model that answers on a device", () => {
  const notices: string[] = [];
  const path = join(folder, "whole.gguf");
  const options = {
    path,
    cacheDir: folder,
    activations: "float32",
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
    expect(notices).toEqual([]);
  });

  const answerOf = async (model: Model, given: Plan, more: object = {}) => {
    const tokens: number[] = [];
    for await (const { id } of model.generate(given, { maxNewTokens: 6, temperature: 0, ...more })) tokens.push(id);
    return tokens;
  };

  test("gives the processor's answers, also when several run at once", async () => {
    const plans = [0, 1, 2].map(
      (at): Plan => ({ pieces: [...OVER_DOCUMENTS.pieces.slice(0, 3), { tokens: PROMPT.slice(at, at + 6), at: 120 }] }),
    );
    const expected = await Promise.all(plans.map((each) => answerOf(processor, each)));
    expect(await Promise.all(plans.map((each) => answerOf(device, each)))).toEqual(expected);
    expect(expected.flat().length).toBeGreaterThan(3);
  });

  test("links documents like the processor", async () => {
    const link = { kind: "question", share: 0.3 } as const;
    const loose: Plan = { pieces: OVER_DOCUMENTS.pieces.map((piece) => ("block" in piece ? { ...piece, loose: true } : piece)) };
    const expected = await processor.logits(loose, { link });
    expect(largestDifference(expected, await processor.logits(loose))).toBeGreaterThan(1e-3);
    expect(largestDifference(await device.logits(loose, { link }), expected)).toBeLessThan(1e-3 * Math.max(...expected.map(Math.abs)));
  });

  test("keeps a conversation in the store, from which the processor continues", async () => {
    const store = openStore({ memory: { budget: 2 ** 24 } });
    const turn = PROMPT.slice(0, 9);
    const kept: Plan = {
      pieces: [...OVER_DOCUMENTS.pieces.slice(0, 2), { tokens: turn, at: 120, keep: "a turn" }, { tokens: [7, 8], at: 129 }],
    };
    const answer = await answerOf(device, kept, { store });
    expect((await store.get("a turn"))?.tokens).toBe(turn.length);
    expect(await answerOf(processor, kept, { store })).toEqual(answer);
    await store.close();
  });

  test("answers on the processor if asked to", async () => {
    await using model = await loadModel({ ...options, device: "webgpu", answerOn: "cpu" });
    expect(await answerOf(model, OVER_DOCUMENTS)).toEqual(await answerOf(processor, OVER_DOCUMENTS));
  });
});
