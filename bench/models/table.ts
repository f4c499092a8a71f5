/**
 * Prints the table of docs/models.md: tiny models with random weights, one for each family, compared with llama.cpp.
 *
 *     npx tsx models/table.ts [NAME...] [--templates FOLDER...]   in bench/
 *
 * Folders contain chat templates of the families' models, one `.jinja` file each: llama.cpp's `models/templates` and more.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadModel, type Plan } from "../../engine/index.js";
import { createChatTemplate } from "../../engine/model/chat-template.js";
import { agreement } from "../../test/support/engine/models/agreement.js";
import { writeTiny } from "../../test/support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS, type TinyModel } from "../../test/support/engine/models/tiny-models.js";
import { largestDifference, referenceEngine } from "../../test/support/engine/reference.js";
import { llamaCppLogits, llamaCppRelease, llamaCppTokens } from "./llama-cpp.js";

const TEXT = "The 12 ships went on at 3. <|im_start|>système\n\n  \tand \u{1f600} more";
/** Two documents at different places from where they were encoded, the later one first. */
const SPLICED: Plan = {
  pieces: [
    { tokens: PROMPT.slice(0, 3), at: 0 },
    { block: { tokens: PROMPT.slice(20, 40) }, at: 5 },
    { block: { tokens: PROMPT.slice(2, 24) }, at: 30 },
    { tokens: PROMPT.slice(7, 12), at: 60 },
  ],
};

/** Prefixes of the names of each architecture's templates, by `general.architecture`. */
const TEMPLATES: Readonly<Record<string, RegExp>> = {
  llama: /^(meta-llama-|mistralai-Mi(?!nistral)|unsloth-mistral-|Mistral-|HuggingFaceTB-SmolLM2)/,
  mistral3: /^mistralai-Ministral/,
  qwen2: /^Qwen-(Qwen2|QwQ)/,
  qwen3: /^Qwen-Qwen3/,
  qwen3moe: /^Qwen3-Coder/,
  "gpt-oss": /^openai-gpt-oss/,
  gemma: /^google-gemma-7b/,
  gemma2: /^google-gemma-2/,
  gemma3: /^google-gemma-3/,
  phi3: /^microsoft-[Pp]hi/,
  smollm3: /^HuggingFaceTB-SmolLM3/,
  granite: /^ibm-granite/,
  olmo2: /^allenai-OLMo-2/,
};

const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { templates: { type: "string", multiple: true, default: [] } },
});
const templates = options.templates.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".jinja"))
    .map((name) => ({ name, path: join(folder, name) })),
);
const folder = mkdtempSync(join(tmpdir(), "kvsplice-table-"));
console.log(
  `| Model | Logits against llama.cpp: correlation | Difference | Top ten | Tokens | Templates framed | Spliced equals computed in place |`,
);
console.log(`|---|---|---|---|---|---|---|`);
for (const [name, model] of Object.entries(TINY_MODELS).filter(
  ([name, { context }]) => context === undefined && (wanted.length === 0 || wanted.includes(name)),
))
  console.log(`| ${name} | ${(await row(name, model)).join(" | ")} |`);
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
  return [
    found.correlation.toFixed(7),
    found.difference.toExponential(1),
    `${found.topTen} of 10`,
    tokens ? "the same" : "differ",
    templatesOf(model),
    apart < 1e-4 ? "yes" : `no: ${apart}`,
  ];
}

function templatesOf({ architecture }: TinyModel): string {
  const own = templates.filter(({ name }) => TEMPLATES[architecture]!.test(name));
  const framed = own.filter(({ path }) => {
    try {
      createChatTemplate({ source: readFileSync(path, "utf8"), bos: "<bos>", eos: "<eos>", addBos: false });
      return true;
    } catch {
      return false;
    }
  });
  return `${framed.length} of ${own.length}`;
}
