import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { openModelFile } from "../../../engine/model/files/open.js";
import type { ModelFile } from "../../../engine/model/files/model-file.js";
import { dequantize } from "../../../engine/model/tensors/index.js";
import { KvspliceError } from "../../../plan/index.js";
import { type Checkpoint, encode, type FolderOptions, writeFolder } from "./write-folder.js";

type Golden = Checkpoint & {
  readonly gguf: {
    readonly architecture: string;
    readonly keys: Readonly<Record<string, unknown>>;
    /** SHA-256 of each tensor's values as float32. */
    readonly tensors: Readonly<Record<string, string>>;
    /** SHA-256 of the bytes that llama.cpp quantises each matrix to. */
    readonly quantized: Readonly<Record<"Q8_0" | "Q4_0", Readonly<Record<string, string>>>>;
  };
};

const families = (JSON.parse(readFileSync(new URL("../../golden/folders.json", import.meta.url), "utf8")) as { families: Record<string, Golden> }).families;

const root = mkdtempSync(join(tmpdir(), "kvsplice-folders-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let made = 0;
function checkpoint(family: string, options: FolderOptions = {}, more: Readonly<Record<string, unknown>> = {}): string {
  const folder = join(root, `${family}-${made++}`);
  writeFolder(folder, family, { ...families[family]!, config: { ...families[family]!.config, ...more } }, options);
  return folder;
}

function hashOf(values: Float32Array): string {
  return createHash("sha256").update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)).digest("hex");
}

/** The order of Q and K rows in GGUFs of Llama's relatives: dimensions that turn together lie side by side. */
function interleaved(values: Float32Array, heads: number): Float32Array {
  const size = values.length / heads;
  const out = new Float32Array(values.length);
  // A head is two halves of rows (of columns); rows i of both become rows 2i and 2i + 1.
  const columns = 64;
  const isMatrix = size % columns === 0 && size >= columns * 2;
  const row = isMatrix ? columns : 1;
  const half = size / row / 2;
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < half; i++) {
      for (const which of [0, 1]) {
        const from = head * size + (which * half + i) * row;
        out.set(values.subarray(from, from + row), head * size + (2 * i + which) * row);
      }
    }
  }
  return out;
}

const INTERLEAVED = new Set(["llama", "granite", "smollm3"]);

/** Keys that one of the two writes alone, and why that makes no difference. */
const ALONE: Readonly<Record<string, string>> = {
  vocab_size: "is the embedding's number of rows",
  "rope.scaling.finetuned": "is a remark",
  "attention.scale": "stands in for the sizes by which llama.cpp knows Gemma's models of 27B",
  "attention.key_length": "is told for all families",
  "attention.value_length": "is told for all families",
  "rope.dimension_count": "is told for all families",
  "rope.freq_base": "is told for all families",
  "rope.freq_base_swa": "is OLMo 3's only base",
  "rope.scaling.yarn_beta_fast": "is told where it is the usual, too",
  "rope.scaling.yarn_beta_slow": "is told where it is the usual, too",
  "rope.scaling.original_context_length": "is told by Phi's converter where nothing is scaled, too",
  "attention.sliding_window": "is 0 for Phi where there is none, and not told for Mistral, whose window llama.cpp does not apply",
  "attention.sliding_window_pattern": "is told for Gemma, too, whose rule llama.cpp knows",
};

describe.each(Object.keys(families))("a folder of %s", (family) => {
  const { gguf, config } = families[family]!;

  test("is read as the GGUF file that llama.cpp's converter makes of it", () => {
    const file = openModelFile(checkpoint(family), { quantize: "none" });
    expect(file.metadata["general.architecture"]).toBe(gguf.architecture);
    expect([...file.names()].sort()).toEqual(Object.keys(gguf.tensors).sort());
    for (const name of file.names()) {
      const values = dequantize(file.tensor(name));
      const heads = /attn_q\./.test(name) ? config["num_attention_heads"] : /attn_k\./.test(name) ? config["num_key_value_heads"] : undefined;
      const turned = INTERLEAVED.has(gguf.architecture) && heads !== undefined ? interleaved(values, Number(heads)) : values;
      expect([name, hashOf(turned)]).toEqual([name, gguf.tensors[name]]);
    }
    file.close();
  });

  test("has the converter's keys", () => {
    const file = openModelFile(checkpoint(family));
    const prefix = `${gguf.architecture}.`;
    const mine = rounded(Object.fromEntries(Object.entries(file.metadata).filter(([key]) => key.startsWith(prefix))));
    const theirs = rounded(gguf.keys);
    for (const key of new Set([...Object.keys(mine), ...Object.keys(theirs)])) {
      const isAlone = mine[key] === undefined || theirs[key] === undefined;
      if (isAlone) expect(Object.keys(ALONE)).toContain(key.slice(prefix.length));
      else expect({ [key]: mine[key] }).toEqual({ [key]: theirs[key] });
    }
    file.close();
  });
});

/** GGUF keeps numbers as float32. */
function rounded(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, typeof value === "number" ? Math.fround(value) : value]));
}

function contentOf(file: ModelFile): Record<string, string> {
  const content = Object.fromEntries([...file.names()].map((name) => [name, hashOf(dequantize(file.tensor(name)))]));
  file.close();
  return content;
}

test("shards, and every type of float, hold the same model", () => {
  const [single, sharded, floats] = [checkpoint("llama"), checkpoint("llama", { shards: 3 }), checkpoint("llama", { type: "F32" })].map((folder) =>
    contentOf(openModelFile(folder, { quantize: "none" })),
  );
  expect(sharded).toEqual(single);
  expect(floats).toEqual(single);
  const halves = openModelFile(checkpoint("llama", { type: "F16" }), { quantize: "none" });
  expect(halves.info("blk.0.attn_q.weight").type).toBe("F16");
  halves.close();
});

test("the configuration of transformers 4 says the same as that of 5", () => {
  const { rope_parameters: _, ...old } = families["gemma3"]!.config;
  const [five, four] = [
    checkpoint("gemma3"),
    checkpoint("gemma3", {}, { ...old, rope_parameters: undefined, rope_theta: 1_000_000, rope_local_base_freq: 10_000, rope_scaling: null }),
  ].map((folder) => {
    const file = openModelFile(folder);
    file.close();
    return { ...file.metadata, "general.name": "" };
  });
  expect(four).toEqual(five);
});

test("matrices are quantised to what was asked for, vectors are not", () => {
  const folder = checkpoint("llama");
  const typesOf = (quantize: "q4" | "q8" | "none" | undefined) => {
    const file = openModelFile(folder, { quantize });
    const types = ["token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.0.attn_norm.weight"].map((name) => file.tensor(name).type);
    file.close();
    return types;
  };
  expect(typesOf(undefined)).toEqual(["Q8_0", "Q8_0", "Q8_0", "F32"]);
  expect(typesOf("q4")).toEqual(["Q8_0", "Q8_0", "Q4_0", "F32"]);
  expect(typesOf("none")).toEqual(["BF16", "BF16", "BF16", "F32"]);
});

test.each(["q8", "q4"] as const)("%s is what llama.cpp quantises to, byte for byte", (quantize) => {
  const file = openModelFile(checkpoint("qwen2"), { quantize });
  for (const [name, hash] of Object.entries(families["qwen2"]!.gguf.quantized[quantize === "q8" ? "Q8_0" : "Q4_0"])) {
    if (quantize === "q4" && !name.startsWith("blk.")) continue;
    expect([name, createHash("sha256").update(file.tensor(name).bytes).digest("hex")]).toEqual([name, hash]);
  }
  file.close();
});

test("a row is that of its tensor, quantised too", () => {
  for (const quantize of ["q8", "none"] as const) {
    const file = openModelFile(checkpoint("llama"), { quantize });
    const whole = dequantize(file.tensor("token_embd.weight"));
    expect(dequantize(file.rows("token_embd.weight", 77, 1))).toEqual(whole.subarray(77 * 64, 78 * 64));
    file.close();
  }
});

test("a model is told by its weights and configuration, and by how it is quantised", async () => {
  const identity = async (folder: string, quantize?: "q4") => {
    const file = openModelFile(folder, { quantize });
    const identity = `${await file.contentHash()} ${file.variant}`;
    file.close();
    return identity;
  };
  const folder = checkpoint("llama");
  const one = await identity(folder);
  expect(await identity(checkpoint("llama", { template: "other" }))).toBe(one);
  expect(await identity(folder, "q4")).not.toBe(one);
  expect(await identity(checkpoint("llama", {}, { rms_norm_eps: 1e-3 }))).not.toBe(one);
});

test("words, turns and ends are told by GGUF's keys", () => {
  const file = openModelFile(checkpoint("llama", { template: "{{ messages }}" }));
  expect(file.metadata).toMatchObject({
    "tokenizer.huggingface.json": expect.stringContaining("ByteLevel"),
    "tokenizer.ggml.bos_token_id": 256,
    "tokenizer.ggml.eos_token_id": 257,
    "tokenizer.ggml.eos_token_ids": [257, 256],
    "tokenizer.ggml.add_bos_token": false,
    "tokenizer.chat_template": "{{ messages }}",
  });
  file.close();
});

test("a model that sees pictures is its text part", () => {
  const folder = join(root, "pictures");
  const { config, tensors } = families["gemma3"]!;
  const named = Object.fromEntries(Object.entries(tensors).map(([name, shape]) => [`language_model.${name}`, shape]));
  writeFolder(folder, "gemma3", { config: { model_type: "gemma3", architectures: ["Gemma3ForConditionalGeneration"], text_config: config }, tensors: { ...named, "vision_tower.x.weight": [4, 4] } });
  const file = openModelFile(folder);
  expect([...file.names()].sort()).toEqual(Object.keys(families["gemma3"]!.gguf.tensors).sort());
  file.close();
});

function refusal(folder: string): string {
  try {
    openModelFile(folder).close();
  } catch (error) {
    expect(error).toBeInstanceOf(KvspliceError);
    expect(error).toMatchObject({ code: "bad_model" });
    return (error as KvspliceError).message;
  }
  throw new Error(`${folder} was opened`);
}

test.each<[what: string, change: Readonly<Record<string, unknown>>, cause: string]>([
  ["another family", { model_type: "mamba" }, "is of the kind mamba; kvsplice opens folders of llama, mistral"],
  ["no family", { model_type: undefined }, "model_type of"],
  ["quantised weights", { quantization_config: { quant_method: "gptq" } }, "quantised (gptq)"],
  ["another activation", { hidden_act: "relu" }, "hidden_act of"],
  ["a scaling that is not computed", { rope_parameters: { rope_type: "dynamic", factor: 2, rope_theta: 1e4 } }, "is of the type dynamic"],
  ["a scaling without its factor", { rope_parameters: { rope_type: "linear", rope_theta: 1e4 } }, "has no factor"],
  ["a classifier", { architectures: ["LlamaForSequenceClassification"] }, "an embedding or classifying model (LlamaForSequenceClassification)"],
  ["a missing size", { hidden_size: undefined }, "hidden_size of"],
  ["a size that is no number", { num_hidden_layers: "two" }, 'is "two", where a number is due'],
])("%s is refused by its name", (_, change, cause) => {
  expect(refusal(checkpoint("llama", {}, change))).toContain(cause);
});

test.each<[what: string, change: (folder: string) => void, cause: string]>([
  ["an embedding model", (folder) => writeFileSync(join(folder, "modules.json"), "[]"), "an embedding or classifying model (modules.json)"],
  ["no weights", (folder) => rmSync(join(folder, "model.safetensors")), "has no model.safetensors: download it, too"],
  [
    "PyTorch's weights alone",
    (folder) => {
      rmSync(join(folder, "model.safetensors"));
      writeFileSync(join(folder, "pytorch_model.bin"), "");
    },
    "Convert it to safetensors",
  ],
  ["no tokenizer", (folder) => rmSync(join(folder, "tokenizer.json")), "has no tokenizer.json: download it, too"],
  ["a configuration that is no JSON", (folder) => writeFileSync(join(folder, "config.json"), "{"), "is not JSON"],
  ["weights that are cut short", (folder) => truncateSync(join(folder, "model.safetensors"), 9_000), "is cut short"],
  ["weights cut in their header", (folder) => truncateSync(join(folder, "model.safetensors"), 100), "is cut short: it ends within its header"],
  ["other files in their place", (folder) => writeFileSync(join(folder, "model.safetensors"), "<!DOCTYPE html>"), "does not begin as a safetensors file"],
  ["an unknown tensor", (folder) => writeFileSync(join(folder, "model.safetensors"), encode([{ name: "model.odd.weight", shape: [1], values: new Float32Array(1) }])), "has model.odd.weight, which"],
])("a folder with %s is refused by that", (_, change, cause) => {
  const folder = checkpoint("llama");
  change(folder);
  expect(refusal(folder)).toContain(cause);
});

test("a shard that is missing, and an index that leads elsewhere, are refused", () => {
  const folder = checkpoint("llama", { shards: 3 });
  rmSync(join(folder, "model-00002-of-00003.safetensors"));
  expect(refusal(folder)).toContain("model-00002-of-00003.safetensors is missing: download it, too");
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: { x: "../../etc/passwd" } }));
  expect(refusal(folder)).toContain("names no files of this folder");
});

test("a folder without a model is refused", () => {
  mkdirSync(join(root, "empty"));
  expect(refusal(join(root, "empty"))).toContain("a folder without config.json");
});

test("with random bytes in its weights' header, a folder opens or is refused", () => {
  const folder = checkpoint("llama");
  const path = join(folder, "model.safetensors");
  const whole = readFileSync(path);
  const header = Number(whole.readBigUInt64LE(0)) + 8;
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(header - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }), (changes) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      writeFileSync(path, bytes);
      try {
        const file = openModelFile(folder);
        for (const name of file.names()) file.tensor(name);
        file.close();
      } catch (error) {
        expect(error).toBeInstanceOf(KvspliceError);
      }
    }),
    { numRuns: 200 },
  );
});
