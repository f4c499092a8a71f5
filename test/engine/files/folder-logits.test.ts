import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadModel } from "../../../engine/index.js";
import { type Checkpoint, type FolderOptions, writeFolder } from "../../support/engine/files/write-folder.js";

type Golden = Checkpoint & { readonly ids: readonly number[]; readonly logits: readonly number[] };

const families = (
  JSON.parse(readFileSync(new URL("../../golden/folders.json", import.meta.url), "utf8")) as { families: Record<string, Golden> }
).families;

const root = mkdtempSync(join(tmpdir(), "kvsplice-folder-logits-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** The logits' deviation from transformers' logits: the root mean square of the differences relative to that of the values. */
async function deviation(family: string, quantize: "q8" | "none", options: FolderOptions = {}): Promise<number> {
  const { ids, logits, ...checkpoint } = families[family]!;
  const path = join(root, `${family}-${quantize}`);
  writeFolder(path, family, checkpoint, options);
  // LongRoPE's factors depend on the positions that a model is opened for; in transformers they depend on the prompt's length.
  const contextLength = family === "phi3-long" ? 64 : undefined;
  const model = await loadModel({ path, quantize, contextLength, activations: "float32", cacheDir: join(root, "cache") });
  const own = await model.logits({ pieces: [{ tokens: ids, at: 0 }] });
  await model.close();
  const rms = (values: readonly number[]) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  return rms(logits.map((value, id) => own[id]! - value)) / rms(logits);
}

test.each(Object.keys(families))("a folder of %s gives the same logits as transformers", async (family) => {
  expect(await deviation(family, "none", { shards: family === "llama" ? 3 : 1 })).toBeLessThan(1e-4);
});

test.each(["llama", "gemma3", "phi3"])("a folder of %s, quantised to 8 bits, gives nearly the same logits", async (family) => {
  expect(await deviation(family, "q8")).toBeLessThan(0.03);
});
