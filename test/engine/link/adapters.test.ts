import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  type AdapterChoice,
  type Block,
  type BlockSource,
  encodeSafetensors,
  loadModel,
  type Model,
  openDiskStore,
  type Plan,
  readAdapter,
} from "../../../engine/index.js";
import { DiskTier } from "../../../engine/store/disk.js";
import { F32, writeGguf } from "../../support/engine/files/write-gguf.js";
import { LINKING, writeGgufAdapter } from "../../support/engine/models/adapter-file.js";
import { largestDifference } from "../../support/engine/reference.js";

const golden = LINKING;
const scratch = mkdtempSync(path.join(tmpdir(), "kvsplice-adapters-"));
const opened: Model[] = [];
afterAll(async () => {
  for (const model of opened) await model.close();
  rmSync(scratch, { recursive: true });
});

const TOKENS = [7, 41, 3, 90, 12, 12, 55];
const NEAR = 1e-5;

async function open(name: string, adapters: readonly AdapterChoice[]): Promise<Model> {
  const model = await loadModel({
    path: path.join(golden, `${name}.gguf`),
    activations: "float32",
    precision: "float32",
    cacheDir: scratch,
    adapters,
  });
  opened.push(model);
  return model;
}

/** The tiny model's adapter with other settings. */
function changed(name: string, as: string, settings: object): string {
  const folder = path.join(scratch, as);
  cpSync(path.join(golden, `${name}-adapter`), folder, { recursive: true });
  const file = path.join(folder, "adapter_config.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...settings }));
  return folder;
}

const valuesOf = ({ k, v }: Block): Float32Array => Float32Array.from([...k, ...v]);
const encoded = async (model: Model): Promise<Float32Array> => valuesOf(await model.encode({ tokens: TOKENS, adapted: true }));

describe.each(["llama", "qwen2"])("on a tiny %s", (name) => {
  const own = path.join(golden, `${name}-adapter`); // of rank 4 and alpha 8: a scale of 2

  test("several adapters act as their sum, each with its scale", async () => {
    const one = await encoded(await open(name, [{ path: own }]));
    const half = changed(name, `${name}-half`, { lora_alpha: 4 });
    expect(largestDifference(await encoded(await open(name, [{ path: half, scale: 2 }])), one)).toBeLessThan(NEAR);
    expect(largestDifference(await encoded(await open(name, [{ path: own, scale: 0.5 }, { path: half }])), one)).toBeLessThan(NEAR);
    expect(
      largestDifference(await encoded(await open(name, [{ path: own }, { path: half, scale: -2 }])), await encoded(await open(name, []))),
    ).toBeLessThan(NEAR);
    expect(largestDifference(await encoded(await open(name, [{ path: own, scale: 0.5 }])), one)).toBeGreaterThan(0.01);
  });

  test("an adapter in llama.cpp's GGUF equals the PEFT adapter, on every pass", async () => {
    const peft = await encoded(await open(name, [{ path: own }]));
    const gguf = await open(name, [{ path: await writeGgufAdapter(scratch, name, 16) }]);
    expect(largestDifference(valuesOf(await gguf.encode({ tokens: TOKENS })), peft)).toBeLessThan(NEAR);
    expect(gguf.adapters).toMatchObject([{ name: `${name}-lora.gguf`, where: "both" }]);
  });

  test("an adapter for encoding and one for every pass each act on their passes", async () => {
    const both = changed(name, `${name}-both`, { kvsplice_where: "both", lora_alpha: 4 });
    const [mixed, always, none] = [
      await open(name, [{ path: own, scale: 0.5 }, { path: both }]),
      await open(name, [{ path: both }]),
      await open(name, [{ path: own }]),
    ];
    expect(largestDifference(await encoded(mixed), await encoded(none))).toBeLessThan(NEAR); // 0.5 * 2 + 1
    const plain = { tokens: TOKENS };
    expect(valuesOf(await mixed.encode(plain))).toEqual(valuesOf(await always.encode(plain)));
    expect(mixed.keyOf(plain)).toBe(always.keyOf(plain));
  });
});

test("keys and the model's name include all adapters and their scales, in any given order", async () => {
  const [a, b] = [path.join(golden, "qwen2-adapter"), changed("qwen2", "other", { lora_alpha: 16 })];
  const source = { tokens: TOKENS, adapted: true as const };
  const sets: readonly (readonly AdapterChoice[])[] = [
    [],
    [{ path: a }],
    [{ path: b }],
    [{ path: a, scale: 0.5 }],
    [{ path: a }, { path: b }],
    [{ path: a }, { path: b, scale: 0.5 }],
    [{ path: a, scale: 0.5 }, { path: b }],
  ];
  const models = await Promise.all(sets.map((set) => open("qwen2", set)));
  expect(new Set(models.map((model) => model.keyOf(source))).size).toBe(sets.length);
  expect(new Set(models.map(({ id }) => id)).size).toBe(sets.length);
  expect(new Set(models.map((model) => model.keyOf({ tokens: TOKENS }))).size).toBe(1); // they are for encoding: the model's own stays
  const turned = await open("qwen2", [{ path: b, scale: 0.5 }, { path: a }]);
  expect([turned.id, turned.name, turned.keyOf(source)]).toEqual([models[5]!.id, models[5]!.name, models[5]!.keyOf(source)]);
  expect(turned.name).toContain("other=0.5");
  expect(turned.name).toContain(" with ");
  expect((await open("qwen2", [{ path: a, name: "hf:acme/lora" }])).name).toMatch(/ with hf:acme\/lora$/);
  expect(models[1]!.encodingAdapter).toBe((await readAdapter(a)).id); // of a corpus that was encoded with one alone
});

test("stored blocks of another adapter, of none, or after another prefix are not used, and do not verify under the key", async () => {
  const own = path.join(golden, "qwen2-adapter");
  const [none, adapted, half] = [
    await open("qwen2", []),
    await open("qwen2", [{ path: own }]),
    await open("qwen2", [{ path: own, scale: 0.5 }]),
  ];
  const source: BlockSource = { tokens: TOKENS, after: [1, 2], adapted: true };
  const plan: Plan = {
    pieces: [
      { block: source, at: 0, loose: true },
      { tokens: [5, 6], at: TOKENS.length, asks: true },
    ],
  };
  const expected = await adapted.logits(plan);
  const store = openDiskStore(path.join(scratch, "store"));
  for (const model of [none, half]) await store.put(model.keyOf(source), await model.encode(source));
  for (const other of [
    { ...source, after: [1, 3] },
    { tokens: TOKENS, adapted: true as const },
  ])
    await store.put(adapted.keyOf(other), await adapted.encode(other));
  const answer = adapted.generate(plan, { store, maxNewTokens: 1 });
  expect((await answer.stats).encoded_tokens).toBe(TOKENS.length);
  expect(await adapted.logits(plan, { store })).toEqual(expected);
  await store.close();

  const key = adapted.keyOf(source);
  const crafted = path.join(scratch, "crafted");
  const tier = DiskTier.open({ path: crafted, onDamage: () => undefined });
  const file = Buffer.concat(encodeSafetensors(none.keyOf(source), await none.encode(source)));
  tier.put(
    { key, bytes: file.length, tokens: TOKENS.length, precision: "float32", model: "", cost_ms: 1, pinned: false, uses: 0, used_ms: 0 },
    [file],
    false,
  );
  await tier.close();
  const planted = openDiskStore(crafted);
  expect(await adapted.logits(plan, { store: planted })).toEqual(expected);
  expect(valuesOf((await planted.get(key))!)).toEqual(valuesOf(await adapted.encode(source))); // encoded again in its place
  await planted.close();
});

test("an adapter given twice, an invalid scale, and another model's adapter are refused by name", async () => {
  const [qwen2, llama] = [path.join(golden, "qwen2-adapter"), path.join(golden, "llama-adapter")];
  await expect(open("qwen2", [{ path: qwen2 }, { path: qwen2, scale: 2 }])).rejects.toMatchObject({
    code: "bad_argument",
    message: expect.stringContaining("qwen2-adapter is given twice"),
  });
  await expect(open("qwen2", [{ path: qwen2, scale: NaN }])).rejects.toMatchObject({
    code: "bad_argument",
    message: expect.stringContaining("NaN"),
  });
  await expect(open("qwen2", [{ path: qwen2 }, { path: path.join(scratch, "nowhere") }])).rejects.toMatchObject({
    code: "bad_model",
    message: expect.stringContaining("nowhere"),
  });
  const { pairs } = await readAdapter(llama);
  const [weight, { a, rank, columns }] = [...pairs][0]!;
  const tensor = (factor: string, shape: number[]) => ({
    name: `${weight}.lora_${factor}`,
    type: F32,
    shape,
    bytes: new Uint8Array(4 * shape[0]! * shape[1]!),
  });
  const wide = path.join(scratch, "wide.gguf");
  writeFileSync(
    wide,
    writeGguf({ "general.type": { string: "adapter" }, "adapter.type": { string: "lora" } }, [
      { ...tensor("a", [columns, rank]), bytes: new Uint8Array(a.slice().buffer) },
      tensor("b", [rank, 7]),
    ]),
  );
  await expect(open("qwen2", [{ path: qwen2 }, { path: wide }])).rejects.toMatchObject({
    code: "bad_model",
    message: expect.stringContaining("wide.gguf"),
  });
});
