/** Prints the table of docs/models.md: tiny models of random weights, one for each family, beside llama.cpp. Usage: npx tsx models/table.ts [NAME...], in bench/ */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel, type Plan } from "../../engine/index.js";
import { agreement } from "../../test/engine/models/agreement.js";
import { writeTiny } from "../../test/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS, type TinyModel } from "../../test/engine/models/tiny-models.js";
import { largestDifference, referenceEngine } from "../../test/engine/reference.js";
import { llamaCppLogits, llamaCppRelease, llamaCppTokens } from "./llama-cpp.js";

const TEXT = "The 12 ships went on at 3. <|im_start|>système\n\n  \tand \u{1f600} more";
/** Two documents at other places than they were encoded at, the later one first. */
const SPLICED: Plan = {
  pieces: [
    { tokens: PROMPT.slice(0, 3), at: 0 },
    { block: { tokens: PROMPT.slice(20, 40) }, at: 5 },
    { block: { tokens: PROMPT.slice(2, 24) }, at: 30 },
    { tokens: PROMPT.slice(7, 12), at: 60 },
  ],
};

const wanted = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "kvsplice-table-"));
console.log(`| Model | Logits beside llama.cpp: correlation | Difference | Top ten | Tokens | Spliced as computed there |`);
console.log(`|---|---|---|---|---|---|`);
for (const [name, model] of Object.entries(TINY_MODELS).filter(([name, { context }]) => context === undefined && (wanted.length === 0 || wanted.includes(name)))) console.log(`| ${name} | ${(await row(name, model)).join(" | ")} |`);
rmSync(folder, { recursive: true });
console.log(`\nllama.cpp ${await llamaCppRelease()}`);
process.exit(0);

async function row(name: string, model: TinyModel): Promise<string[]> {
  const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
  writeTiny(path, model);
  const own = await loadModel({ path, activations: "float32", precision: "float32", cacheDir: folder });
  const found = agreement(await own.logits({ pieces: [{ tokens: PROMPT, at: 0 }] }), await llamaCppLogits(path, PROMPT));
  const tokens = JSON.stringify(own.tokenizer.encode(TEXT)) === JSON.stringify(await llamaCppTokens(path, TEXT));
  const there = await (await referenceEngine(path, folder))(SPLICED);
  const apart = largestDifference(await own.logits(SPLICED), there) / Math.max(...there.map(Math.abs));
  await own.close();
  return [found.correlation.toFixed(7), found.difference.toExponential(1), `${found.topTen} of 10`, tokens ? "the same" : "differ", apart < 1e-4 ? "yes" : `no: ${apart}`];
}
