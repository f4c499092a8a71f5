import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readSpec } from "../../../engine/model/arch/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import type { ModelSpec } from "../../../engine/model/spec.js";
import type { GgufValue } from "../../support/engine/files/write-gguf.js";
import { computed } from "../../support/engine/models/computed.js";
import { tinyGguf } from "../../support/engine/models/tiny-file.js";
import { TINY_MODELS, type TinyModel } from "../../support/engine/models/tiny-models.js";

const folder = mkdtempSync(join(tmpdir(), "kvsplice-refused-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;

function opened(changes: Partial<TinyModel>) {
  const path = join(folder, `${files++}.gguf`);
  writeFileSync(path, tinyGguf({ ...TINY_MODELS["llama"]!, ...changes }));
  return openModelFile(path);
}

function specOf(changes: Partial<TinyModel>): ModelSpec {
  const file = opened(changes);
  try {
    return readSpec(file);
  } finally {
    file.close();
  }
}

/** A specification as text, for comparison. */
const comparable = (spec: ModelSpec) => JSON.stringify(spec);

describe("anything in a file that would not be used is an error that names it:", () => {
  test.each([
    "blk.0.attn_gate.weight",
    "blk.7.attn_norm.weight",
    "blk.1.attn_rel_b.weight",
    "position_embd.weight",
    "rope_factors_long.weight",
    "cls.weight",
  ])("the tensor %s", (name) => expect(() => specOf({ tensors: { [name]: [1, 2, 3] } })).toThrow(name));

  test("more or fewer frequency factors than needed", () => {
    expect(() => specOf({ tensors: { "rope_freqs.weight": [1, 2, 3] } })).toThrow("3 frequency factors");
    expect(() =>
      specOf({
        ...TINY_MODELS["phi3"]!,
        tensors: { "rope_factors_short.weight": [1, 2, 3, 4, 5, 6, 7, 8] },
        keys: { "rope.scaling.original_context_length": { uint32: 512 } },
      }),
    ).toThrow("long frequency factors");
  });

  test.each<[string, GgufValue]>([
    ["attention.clamp_kqv", { float32: 0.5 }],
    ["embedding_scale", { float32: 12 }],
    ["logit_scale", { float32: 8 }],
    ["attn_logit_softcapping", { float32: 5 }],
    ["attention.scale", { float32: 0.1 }],
    ["use_parallel_residual", { bool: true }],
    ["attention.causal", { bool: false }],
    ["pooling_type", { uint32: 1 }],
    ["attention.value_length", { uint32: 32 }],
    ["rope.scaling.type", { string: "dynamic" }],
    ["rope.dimension_count", { uint32: 15 }],
    ["attention.head_count_kv", { uint32: 3 }],
    ["block_count", { uint32: 4_000_000_000 }],
    ["attention.head_count", { uint32: 0 }],
    ["rope.freq_base", { string: "many" }],
  ])("the key %s", (key, value) => {
    expect(() => specOf({ keys: { [key]: value } })).toThrow(`llama.${key}`);
  });

  test("a rotary magnitude that does not follow from YaRN's factor", () => {
    const keys = { ...TINY_MODELS["llama, YaRN"]!.keys, "rope.scaling.yarn_attn_factor": { float32: 2 } };
    expect(() => specOf({ keys })).toThrow("yarn_attn_factor");
  });

  test("a tensor whose shape does not match the metadata, before anything is computed", async () => {
    const file = opened({ keys: { feed_forward_length: { uint32: 64 } } });
    await expect(computed(file, readSpec(file), [1])).rejects.toThrow("blk.0.ffn_gate.weight");
    file.close();
  });

  test("a missing tensor", () => {
    expect(() => specOf({ layers: 3, keys: { block_count: { uint32: 4 } } })).toThrow("blk.3.");
  });
});

test.each([
  ["lfm2", "recurrent state"],
  ["qwen35", "recurrent state"],
  ["granitehybrid", "recurrent state"],
  ["llama4", "experts"],
  ["starcoder2", "not supported"],
  ["constructor", "not supported"],
])("architecture %s is refused, with the reason: %s", (architecture, reason) => {
  expect(() => specOf({ architecture })).toThrow(new RegExp(`"${architecture}".*${reason}`));
});

describe("metadata is also read in other types:", () => {
  const values: readonly [string, GgufValue][] = [
    ["attention.head_count_kv", { int32s: [2, 2, 2] }],
    ["feed_forward_length", { int32s: [96, 96, 96] }],
    ["attention.head_count", { uint64: 4n }],
    ["embedding_length", { int64: 64n }],
    ["block_count", { uint8: 3 }],
    ["context_length", { uint64: 2048n }],
    ["attention.layer_norm_rms_epsilon", { float64: Math.fround(1e-6) }],
  ];
  test.each(values.map(([key, value]) => ({ key, type: Object.keys(value)[0]!, value: () => value })))(
    "$key as $type",
    ({ key, value }) => {
      expect(comparable(specOf({ keys: { [key]: value() } }))).toBe(comparable(specOf({})));
    },
  );

  test("but not as a list of different values", () => {
    expect(() => specOf({ keys: { "attention.head_count_kv": { int32s: [2, 2, 4] } } })).toThrow("llama.attention.head_count_kv");
  });
});

test("keys that do not affect what is computed are ignored", () => {
  expect(
    comparable(specOf({ keys: { vocab_size: { uint32: 294 }, expert_count: { uint32: 0 }, "attention.causal": { bool: true } } })),
  ).toBe(comparable(specOf({})));
});
