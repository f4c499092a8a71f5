import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readAdapter } from "../../../engine/index.js";

const ADAPTER = fileURLToPath(new URL("../../golden/linking/qwen2-adapter", import.meta.url));

let folder: string;
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), "kvsplice-adapter-")), "adapter");
  cpSync(ADAPTER, folder, { recursive: true });
});
afterEach(() => rmSync(join(folder, ".."), { recursive: true }));

function change(settings: object): void {
  const path = join(folder, "adapter_config.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...settings }));
}

test("an adapter is read the same from its folder and from its file, with its scale and the passes it acts on", async () => {
  const adapter = await readAdapter(folder);
  expect(adapter).toMatchObject({ where: "encode", scale: 2, rowOrder: "transformers" });
  expect(adapter.pairs.get("blk.0.attn_q.weight")).toMatchObject({ rank: 4, rows: 64, columns: 32 });
  expect((await readAdapter(join(folder, "adapter_model.safetensors"))).id).toBe(adapter.id);
});

test("an adapter without kvsplice_where acts on every pass, and its scale is part of its identity", async () => {
  const { id } = await readAdapter(folder);
  change({ kvsplice_where: undefined, lora_alpha: 4 });
  const other = await readAdapter(folder);
  expect(other).toMatchObject({ where: "both", scale: 1 });
  expect(other.id).not.toBe(id);
});

describe("an adapter is refused, and the error names the reason:", () => {
  test.each<[string, object, RegExp]>([
    ["not of low rank", { peft_type: "IA3" }, /IA3/],
    ["DoRA weights", { use_dora: true }, /use_dora/],
    ["additional whole modules", { modules_to_save: ["lm_head"] }, /modules_to_save/],
    ["different ranks per weight", { rank_pattern: { q_proj: 2 } }, /rank_pattern/],
    ["biases", { bias: "all" }, /biases/],
    ["a kind of pass that does not exist", { kvsplice_where: "decode" }, /decode/],
  ])("%s", async (_, settings, message) => {
    change(settings);
    await expect(readAdapter(folder)).rejects.toMatchObject({ code: "bad_model", message: expect.stringMatching(message) });
  });

  test("missing settings, truncated weights, or no folder", async () => {
    const weights = join(folder, "adapter_model.safetensors");
    writeFileSync(weights, readFileSync(weights).subarray(0, 5_000));
    await expect(readAdapter(folder)).rejects.toMatchObject({ code: "bad_model" });
    rmSync(join(folder, "adapter_config.json"));
    await expect(readAdapter(folder)).rejects.toMatchObject({ code: "bad_model", message: expect.stringContaining("adapter_config.json") });
    await expect(readAdapter(join(folder, "nowhere"))).rejects.toMatchObject({
      code: "bad_model",
      message: expect.stringContaining("does not exist"),
    });
  });
});
