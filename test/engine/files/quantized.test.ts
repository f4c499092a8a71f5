import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadModel, modelNeeds } from "../../../engine/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import { dequantize, encodingOf } from "../../../engine/model/tensors/index.js";
import { quantize } from "../../../engine/model/tensors/quantize.js";
import { agreement } from "../../support/engine/models/agreement.js";
import { writeTiny } from "../../support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../../support/engine/models/tiny-models.js";

const folder = mkdtempSync(join(tmpdir(), "kvsplice-quantized-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const path = join(folder, "floats.gguf");
writeTiny(path, TINY_MODELS["llama"]!);
const experts = join(folder, "experts.gguf");
writeTiny(experts, TINY_MODELS["llama, experts"]!);

test("a GGUF file of floats stays as it is unless a quantisation is requested", () => {
  const file = openModelFile(path);
  expect(new Set([...file.names()].map((name) => file.info(name).type))).toEqual(new Set(["F32"]));
  expect(file.variant).toBe("");
  file.close();
});

test.each([
  ["q8", "Q8_0", "Q8_0"],
  ["q4", "Q8_0", "Q4_0"],
] as const)(
  "%s keeps its embedding as %s, its layers' matrices as %s and its vectors as floats, and has a different identity",
  (quantization, embedding, layers) => {
    const [floats, file] = [openModelFile(path), openModelFile(path, { quantize: quantization })];
    expect(file.variant).toBe(quantization);
    for (const name of file.names()) {
      const { type, shape } = file.info(name);
      expect([name, type]).toEqual([name, shape.length < 2 ? "F32" : name.startsWith("blk.") ? layers : embedding]);
      if (type === "F32") continue;
      expect(file.tensor(name).bytes).toEqual(quantize(dequantize(floats.tensor(name)), type as "Q8_0" | "Q4_0"));
      expect(dequantize(file.rows(name, 7, 3))).toEqual(dequantize(file.tensor(name)).subarray(7 * shape[1]!, 10 * shape[1]!));
    }
    floats.close();
    file.close();
  },
);

test("experts are quantised, their router is not", () => {
  const file = openModelFile(experts, { quantize: "q8" });
  expect(["ffn_gate_inp", "ffn_gate_exps"].map((name) => file.info(`blk.0.${name}.weight`).type)).toEqual(["F32", "Q8_0"]);
  const rows = file.rows("blk.0.ffn_down_exps.weight", 5 * 64, 64);
  const { bytes } = file.tensor("blk.0.ffn_down_exps.weight");
  expect(rows.bytes).toEqual(bytes.subarray((5 * bytes.length) / 8, (6 * bytes.length) / 8));
  file.close();
});

test("a quantised model answers almost like its floats, in less memory", async () => {
  const logitsOf = async (quantization: "q8" | undefined) => {
    const model = await loadModel({ path, quantize: quantization, activations: "float32", cacheDir: folder });
    const logits = await model.logits({ pieces: [{ tokens: PROMPT, at: 0 }] });
    await model.close();
    return logits;
  };
  const found = agreement(await logitsOf("q8"), await logitsOf(undefined));
  expect(found.difference).toBeGreaterThan(0);
  expect(found.difference).toBeLessThan(0.03);
  // 8 bits per weight and a float32 scale per 32 weights, instead of 32 bits per weight.
  const [small, large] = [modelNeeds(path, { quantize: "q8" }), modelNeeds(path)];
  expect(small.memory_bytes).toBeLessThan(large.memory_bytes);
  expect(small.file_bytes / large.file_bytes).toBeCloseTo(8.5 / 32, 1);
});

test("already quantised tensors are left alone", () => {
  const quantised = join(folder, "q4.gguf");
  writeTiny(quantised, { ...TINY_MODELS["llama"]!, type: "Q4_0" });
  const [file, asked] = [openModelFile(quantised), openModelFile(quantised, { quantize: "q8" })];
  for (const name of file.names()) if (encodingOf(file.info(name)).kind !== "float") expect(asked.tensor(name)).toEqual(file.tensor(name));
  file.close();
  asked.close();
});
