/** Creates test/golden/models.json: llama.cpp's logits of the tiny models. Usage: npx tsx models/golden.ts, in bench/ */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tinyGguf } from "../../test/support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../../test/support/engine/models/tiny-models.js";
import { llamaCppLogits, llamaCppRelease } from "./llama-cpp.js";

const folder = mkdtempSync(join(tmpdir(), "kvsplice-golden-"));
const models: Record<string, { readonly file: string; readonly logits: readonly number[] }> = {};
for (const [name, model] of Object.entries(TINY_MODELS)) {
  const bytes = tinyGguf(model);
  const path = join(folder, "tiny.gguf");
  writeFileSync(path, bytes);
  const logits = await llamaCppLogits(path, PROMPT, model.context);
  models[name] = {
    file: createHash("sha256").update(bytes).digest("hex"),
    logits: [...logits].map((value) => Number(value.toPrecision(6))),
  };
  console.log(name, logits.length);
}
rmSync(folder, { recursive: true });
const madeBy = `bench/models/golden.ts with llama.cpp ${await llamaCppRelease()} on the CPU, KV in float32`;
const lines = Object.entries(models).map(([name, model]) => `${JSON.stringify(name)}: ${JSON.stringify(model)}`);
writeFileSync(
  new URL("../../test/golden/models.json", import.meta.url),
  `{"madeBy": ${JSON.stringify(madeBy)},\n"models": {\n${lines.join(",\n")}\n}}\n`,
);
process.exit(0);
