import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { ModelFile } from "../../../engine/model/files/model-file.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import { dequantize } from "../../../engine/model/tensors/index.js";
import { KvspliceError } from "../../../plan/index.js";
import { type Checkpoint, encode, type FolderOptions, writeFolder } from "../../support/engine/files/write-folder.js";

type Golden = Checkpoint & {
  readonly gguf: {
    readonly architecture: string;
    readonly keys: Readonly<Record<string, unknown>>;
    /** SHA-256 of each tensor's values as float32. */
    readonly tensors: Readonly<Record<string, string>>;
    /** SHA-256 of each matrix's bytes as quantised by llama.cpp. */
    readonly quantized: Readonly<Record<"Q8_0" | "Q4_0", Readonly<Record<string, string>>>>;
  };
};

const families = (
  JSON.parse(readFileSync(new URL("../../golden/folders.json", import.meta.url), "utf8")) as { families: Record<string, Golden> }
).families;

const root = mkdtempSync(join(tmpdir(), "kvsplice-folders-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let made = 0;
function checkpoint(family: string, options: FolderOptions = {}, more: Readonly<Record<string, unknown>> = {}): string {
  const folder = join(root, `${family}-${made++}`);
  writeFolder(folder, family, { ...families[family]!, config: { ...families[family]!.config, ...more } }, options);
  return folder;
}

function hashOf(values: Float32Array): string {
  return createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");
}

/** The order of Q and K rows in GGUFs of Llama's relatives: dimensions that rotate together are adjacent. */
function interleaved(values: Float32Array, heads: number): Float32Array {
  const size = values.length / heads;
  const out = new Float32Array(values.length);
  // A head is two halves of rows (of columns); row i of each becomes row 2i or 2i + 1.
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

/** Keys that only one of the two writes, and why that makes no difference. */
const ALONE: Readonly<Record<string, string>> = {
  vocab_size: "is the embedding's number of rows",
  "rope.scaling.finetuned": "is only a remark",
  "attention.scale": "replaces the sizes by which llama.cpp recognises Gemma's 27B models",
  "attention.key_length": "is written for all families",
  "attention.value_length": "is written for all families",
  "rope.dimension_count": "is written for all families",
  "rope.freq_base": "is written for all families",
  "rope.freq_base_swa": "is OLMo 3's only base",
  "rope.scaling.yarn_beta_fast": "is written even if it is the default",
  "rope.scaling.yarn_beta_slow": "is written even if it is the default",
  "rope.scaling.yarn_truncate": "is how transformers computes, unlike llama.cpp",
  "rope.scaling.original_context_length": "is written by Phi's converter even if nothing is scaled",
  "attention.sliding_window": "is 0 for Phi without a window, and absent for Mistral, whose window llama.cpp does not apply",
  "attention.sliding_window_pattern": "is also written for Gemma, whose rule llama.cpp knows",
};

describe.each(Object.keys(families))("a folder of %s", (family) => {
  const { gguf, config } = families[family]!;

  test("is read like the GGUF file that llama.cpp's converter makes from it", () => {
    const file = openModelFile(checkpoint(family), { quantize: "none" });
    expect(file.metadata["general.architecture"]).toBe(gguf.architecture);
    expect([...file.names()].sort()).toEqual(Object.keys(gguf.tensors).sort());
    for (const name of file.names()) {
      const values = dequantize(file.tensor(name));
      const heads = /attn_q\./.test(name)
        ? config["num_attention_heads"]
        : /attn_k\./.test(name)
          ? config["num_key_value_heads"]
          : undefined;
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

/** GGUF stores numbers as float32. */
function rounded(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, typeof value === "number" ? Math.fround(value) : value]));
}

function contentOf(file: ModelFile): Record<string, string> {
  const content = Object.fromEntries([...file.names()].map((name) => [name, hashOf(dequantize(file.tensor(name)))]));
  file.close();
  return content;
}

test("shards, and every float type, contain the same model", () => {
  const [single, sharded, floats] = [checkpoint("llama"), checkpoint("llama", { shards: 3 }), checkpoint("llama", { type: "F32" })].map(
    (folder) => contentOf(openModelFile(folder, { quantize: "none" })),
  );
  expect(sharded).toEqual(single);
  expect(floats).toEqual(single);
  const halves = openModelFile(checkpoint("llama", { type: "F16" }), { quantize: "none" });
  expect(halves.info("blk.0.attn_q.weight").type).toBe("F16");
  halves.close();
});

test("a transformers 4 configuration gives the same model as a transformers 5 one", () => {
  const { rope_parameters: _, ...old } = families["gemma3"]!.config;
  const [five, four] = [
    checkpoint("gemma3"),
    checkpoint(
      "gemma3",
      {},
      { ...old, rope_parameters: undefined, rope_theta: 1_000_000, rope_local_base_freq: 10_000, rope_scaling: null },
    ),
  ].map((folder) => {
    const file = openModelFile(folder);
    file.close();
    return { ...file.metadata, "general.name": "" };
  });
  expect(four).toEqual(five);
});

test("matrices are quantised as requested, vectors are not", () => {
  const folder = checkpoint("llama");
  const typesOf = (quantize: "q4" | "q8" | "none" | undefined) => {
    const file = openModelFile(folder, { quantize });
    const types = ["token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.0.attn_norm.weight"].map(
      (name) => file.tensor(name).type,
    );
    file.close();
    return types;
  };
  expect(typesOf(undefined)).toEqual(["Q8_0", "Q8_0", "Q8_0", "F32"]);
  expect(typesOf("q4")).toEqual(["Q8_0", "Q8_0", "Q4_0", "F32"]);
  expect(typesOf("none")).toEqual(["BF16", "BF16", "BF16", "F32"]);
});

test.each(["q8", "q4"] as const)("%s equals llama.cpp's quantisation byte for byte", (quantize) => {
  const file = openModelFile(checkpoint("qwen2"), { quantize });
  for (const [name, hash] of Object.entries(families["qwen2"]!.gguf.quantized[quantize === "q8" ? "Q8_0" : "Q4_0"])) {
    if (quantize === "q4" && !name.startsWith("blk.")) continue;
    expect([name, createHash("sha256").update(file.tensor(name).bytes).digest("hex")]).toEqual([name, hash]);
  }
  file.close();
});

test("a row equals the tensor's row, also when quantised", () => {
  for (const quantize of ["q8", "none"] as const) {
    const file = openModelFile(checkpoint("llama"), { quantize });
    const whole = dequantize(file.tensor("token_embd.weight"));
    expect(dequantize(file.rows("token_embd.weight", 77, 1))).toEqual(whole.subarray(77 * 64, 78 * 64));
    file.close();
  }
});

test("a model's identity depends on its weights, its configuration and its quantisation", async () => {
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

test("tokenizer, chat template and end tokens appear under GGUF's keys", () => {
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

test("of a model that sees pictures, the text part is opened", () => {
  const folder = join(root, "pictures");
  const { config, tensors } = families["gemma3"]!;
  const named = Object.fromEntries(Object.entries(tensors).map(([name, shape]) => [`language_model.${name}`, shape]));
  writeFolder(folder, "gemma3", {
    config: { model_type: "gemma3", architectures: ["Gemma3ForConditionalGeneration"], text_config: config },
    tensors: { ...named, "vision_tower.x.weight": [4, 4] },
  });
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
  ["another family", { model_type: "mamba" }, "has the model type mamba; kvsplice opens folders of llama, mistral"],
  ["no family", { model_type: undefined }, "model_type of"],
  ["quantised weights", { quantization_config: { quant_method: "gptq" } }, "quantised (gptq)"],
  ["another activation", { hidden_act: "relu" }, "hidden_act of"],
  ["an unsupported scaling", { rope_parameters: { rope_type: "dynamic", factor: 2, rope_theta: 1e4 } }, "has the type dynamic"],
  ["a scaling without its factor", { rope_parameters: { rope_type: "linear", rope_theta: 1e4 } }, "has no factor"],
  [
    "a classifier",
    { architectures: ["LlamaForSequenceClassification"] },
    "an embedding or classifying model (LlamaForSequenceClassification)",
  ],
  ["a missing size", { hidden_size: undefined }, "hidden_size of"],
  ["a size that is not a number", { num_hidden_layers: "two" }, 'is "two"; it must be a number'],
])("%s is refused, and the error names it", (_, change, cause) => {
  expect(refusal(checkpoint("llama", {}, change))).toContain(cause);
});

test.each<[what: string, change: Readonly<Record<string, unknown>>, cause: string]>([
  ["shares that do not add up", { norm_topk_prob: false }, "norm_topk_prob of"],
  ["layers without experts", { mlp_only_layers: [0] }, "leaves some layers without experts"],
  ["experts in every other layer", { decoder_sparse_step: 2 }, "leaves some layers without experts"],
])("experts with %s are refused, with the reason", (_, change, cause) => {
  expect(refusal(checkpoint("qwen3moe", {}, change))).toContain(cause);
});

test("a folder that lacks an expert is refused, and the error gives its number", () => {
  const { config, tensors } = families["mixtral"]!;
  const folder = join(root, "lacking");
  writeFolder(folder, "mixtral", {
    config,
    tensors: Object.fromEntries(Object.entries(tensors).filter(([name]) => !name.includes("layers.1.block_sparse_moe.experts.2.w3"))),
  });
  expect(refusal(folder)).toContain("has no blk.1.ffn_up_exps.weight for expert 2");
});

test.each<[what: string, change: Readonly<Record<string, unknown>>, cause: string]>([
  ["another limit", { swiglu_limit: 5 }, "swiglu_limit of"],
  ["another quantisation", { quantization_config: { quant_method: "gptq" } }, "quantised (gptq)"],
])("gpt-oss with %s is refused, with the reason", (_, change, cause) => {
  expect(refusal(checkpoint("gptoss", {}, change))).toContain(cause);
});

test("gpt-oss's MXFP4 experts are read in GGUF's layout, with gate and up separated", () => {
  const { config, tensors } = families["gptoss"]!;
  const folder = join(root, "mxfp4");
  const others = Object.fromEntries(Object.entries(tensors).filter(([name]) => !/experts\.(gate_up|down)_proj$/.test(name)));
  writeFolder(
    folder,
    "gptoss",
    { config: { ...config, quantization_config: { quant_method: "mxfp4" } }, tensors: others },
    { codes: mxfp4Codes(config) },
  );
  const file = openModelFile(folder);
  expect(file.info("blk.0.ffn_gate_exps.weight")).toMatchObject({ type: "MXFP4", shape: [4, 96, 64] });
  // A code's value, times 2 to the power of its block's scale less 127: OCP specification of microscaling formats, 1.0.
  const VALUES = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];
  const codes = mxfp4Codes(config);
  const expected = (layer: number, expert: number, row: number, column: number) => {
    const { shape, bytes } = codes[`model.layers.${layer}.mlp.experts.gate_up_proj_blocks`]!;
    const [, rows, groups] = shape as [number, number, number, number];
    const block = (expert * rows + row) * groups + (column >> 5);
    const byte = bytes[block * 16 + ((column & 31) >> 1)]!;
    const scale = codes[`model.layers.${layer}.mlp.experts.gate_up_proj_scales`]!.bytes[block]!;
    return VALUES[column % 2 === 0 ? byte & 15 : byte >> 4]! * 2 ** (scale - 127);
  };
  for (const [name, first] of [
    ["ffn_gate_exps", 0],
    ["ffn_up_exps", 1],
  ] as const) {
    const values = dequantize(file.tensor(`blk.1.${name}.weight`));
    const rows = dequantize(file.rows(`blk.1.${name}.weight`, 3 * 96 + 5, 2));
    expect(rows).toEqual(values.subarray((3 * 96 + 5) * 64, (3 * 96 + 7) * 64));
    const wrong = Array.from(values.entries()).filter(
      ([i, value]) => value !== expected(1, Math.floor(i / (96 * 64)), 2 * (Math.floor(i / 64) % 96) + first, i % 64),
    );
    expect(wrong).toEqual([]);
  }
  file.close();
});

test("codes and scales that do not belong together are refused", () => {
  const { config, tensors } = families["gptoss"]!;
  const codes = mxfp4Codes(config);
  const name = "model.layers.0.mlp.experts.down_proj_scales";
  const folder = join(root, "mxfp4-damaged");
  writeFolder(folder, "gptoss", { config, tensors }, { codes: { ...codes, [name]: { shape: [4, 32, 6], bytes: codes[name]!.bytes } } });
  expect(refusal(folder)).toContain("the parts of down_proj have shapes that do not belong together");
});

/** Codes and scales of a tiny gpt-oss's experts: arbitrary bytes, and scales around 1. */
function mxfp4Codes(config: Readonly<Record<string, unknown>>): NonNullable<FolderOptions["codes"]> {
  const [experts, hidden, width] = ["num_local_experts", "hidden_size", "intermediate_size"].map((key) => Number(config[key])) as [
    number,
    number,
    number,
  ];
  const made: Record<string, { shape: number[]; bytes: Uint8Array }> = {};
  const bytes = (shape: number[], value: (i: number) => number) => ({
    shape,
    bytes: Uint8Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => value(i)),
  });
  for (let layer = 0; layer < Number(config["num_hidden_layers"]); layer++) {
    for (const [part, rows, columns] of [
      ["gate_up_proj", 2 * width, hidden],
      ["down_proj", hidden, width],
    ] as const) {
      const name = `model.layers.${layer}.mlp.experts.${part}`;
      made[`${name}_blocks`] = bytes([experts, rows, columns / 32, 16], (i) => (i * 167 + layer * 41 + rows) & 255);
      made[`${name}_scales`] = bytes([experts, rows, columns / 32], (i) => 124 + ((i * 7 + layer) % 5));
    }
  }
  return made;
}

test("experts are quantised, their router stays a float", () => {
  const file = openModelFile(checkpoint("mixtral"), { quantize: "q4" });
  expect(["ffn_gate_inp", "ffn_gate_exps", "ffn_down_exps"].map((name) => file.info(`blk.0.${name}.weight`))).toMatchObject([
    { type: "BF16", shape: [4, 64] },
    { type: "Q4_0", shape: [4, 96, 64] },
    { type: "Q4_0", shape: [4, 64, 96] },
  ]);
  const whole = file.tensor("blk.0.ffn_up_exps.weight");
  expect(file.rows("blk.0.ffn_up_exps.weight", 2 * 96, 96).bytes).toEqual(
    whole.bytes.subarray((2 * whole.bytes.length) / 4, (3 * whole.bytes.length) / 4),
  );
  file.close();
});

test.each<[what: string, change: (folder: string) => void, cause: string]>([
  ["an embedding model", (folder) => writeFileSync(join(folder, "modules.json"), "[]"), "an embedding or classifying model (modules.json)"],
  ["no weights", (folder) => rmSync(join(folder, "model.safetensors")), "has no model.safetensors: download it, too"],
  [
    "only PyTorch weights",
    (folder) => {
      rmSync(join(folder, "model.safetensors"));
      writeFileSync(join(folder, "pytorch_model.bin"), "");
    },
    "Convert it to safetensors",
  ],
  ["no tokenizer", (folder) => rmSync(join(folder, "tokenizer.json")), "has no tokenizer.json: download it, too"],
  ["a configuration that is not JSON", (folder) => writeFileSync(join(folder, "config.json"), "{"), "is not JSON"],
  ["truncated weights", (folder) => truncateSync(join(folder, "model.safetensors"), 9_000), "is cut short"],
  [
    "weights truncated in their header",
    (folder) => truncateSync(join(folder, "model.safetensors"), 100),
    "is cut short: it ends within its header",
  ],
  [
    "another file in place of the weights",
    (folder) => writeFileSync(join(folder, "model.safetensors"), "<!DOCTYPE html>"),
    "does not begin like a safetensors file",
  ],
  [
    "an unknown tensor",
    (folder) =>
      writeFileSync(join(folder, "model.safetensors"), encode([{ name: "model.odd.weight", shape: [1], values: new Float32Array(1) }])),
    "has model.odd.weight, which",
  ],
])("a folder with %s is refused, with the reason", (_, change, cause) => {
  const folder = checkpoint("llama");
  change(folder);
  expect(refusal(folder)).toContain(cause);
});

test("a missing shard, and an index that points outside the folder, are refused", () => {
  const folder = checkpoint("llama", { shards: 3 });
  rmSync(join(folder, "model-00002-of-00003.safetensors"));
  expect(refusal(folder)).toContain("model-00002-of-00003.safetensors is missing: download it, too");
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: { x: "../../etc/passwd" } }));
  expect(refusal(folder)).toContain("does not name files in this folder");
});

test("a folder without a model is refused", () => {
  mkdirSync(join(root, "empty"));
  expect(refusal(join(root, "empty"))).toContain("a folder without config.json");
});

test("a folder with random bytes in its weights' header either opens or is refused", () => {
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
