/**
 * The examples of examples/pml, answered from stored modules, and as natural prompts without modules: tokens, times to the
 * first token (medians of three, or of `--runs`), answers, and the KL divergence of the first token in nats. `--context`
 * overrides each schema's context, which sets what modules see before them. The table then has the cost of encoding
 * instead of times.
 *
 *     npx tsx bench/pml-examples.ts [--model FILE] [--only NAME/PROMPT,...] [--runs N]
 *     npx tsx bench/pml-examples.ts [--model FILE] --context none,before,all
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { divergence } from "../cli/divergence.js";
import { encodeMissing } from "../cli/pml-blocks.js";
import { isBlockPiece, loadModel, openBlockStore, type Plan, withoutCache } from "../engine/index.js";
import {
  blocksOf,
  type Compiled,
  compileMarkup,
  type Layout,
  type Markup,
  naturalPlan,
  readMarkup,
  renderDiagnostics,
  type Schema,
} from "../pml/index.js";

const { values } = parseArgs({
  options: { model: { type: "string" }, context: { type: "string" }, only: { type: "string" }, runs: { type: "string", default: "3" } },
});
const RUNS = Number(values.runs);
const ANSWER_TOKENS = 16;
const EXAMPLES = fileURLToPath(new URL("../examples/pml/", import.meta.url));

const model = await loadModel(values.model === undefined ? {} : { path: values.model });
const { tokenizer, chat, contextLength } = model;
const signal = new AbortController().signal;
const store = openBlockStore({ memory: { budget: 2 ** 31 } });
const only = values.only?.split(",");
const prompts = readdirSync(EXAMPLES)
  .sort()
  .flatMap((name) =>
    readdirSync(join(EXAMPLES, name))
      .filter((file) => file.endsWith(".pml") && file !== "schema.pml")
      .map((file) => ({ name, file, called: `${name}/${file}` })),
  )
  .filter(({ called }) => only === undefined || only.includes(called));

function compiled(name: string, file: string, context?: string): { readonly layout: Layout; readonly compiled: Compiled } {
  const [schema, prompt] = ["schema.pml", file].map((each) => readMarkup(join(EXAMPLES, name, each))) as [Markup, Markup];
  const seeing =
    context !== undefined && schema.kind === "schema"
      ? { ...schema, schema: { ...schema.schema, context: context as NonNullable<Schema["context"]> } }
      : schema;
  const { files, diagnostics } = compileMarkup([seeing, prompt], { language: { tokenizer, chat, contextLength, linkTokens: [] } });
  const [{ layout } = {}, { compiled: found } = {}] = files;
  if (!layout || !found) throw new Error(renderDiagnostics(diagnostics));
  return { layout, compiled: found };
}

async function answered(plan: Plan) {
  let first: Float32Array | undefined;
  const options = { store, maxNewTokens: ANSWER_TOKENS, temperature: 0, stop: ["\n"] };
  const generation = model.generate(plan, { ...options, onLogits: (logits) => void (first ??= logits.slice()) });
  const text = (await generation.text).trim();
  return { text, first_token_ms: (await generation.stats).first_token_ms, logits: first! };
}

/** The same answer several times, with the median of its times. */
async function answeredOften(plan: Plan) {
  const runs = [];
  for (let i = 0; i < RUNS; i++) runs.push(await answered(plan));
  const times = runs.map(({ first_token_ms }) => first_token_ms).sort((a, b) => a - b);
  return { ...runs[0]!, first_token_ms: times[RUNS >> 1]! };
}

console.log(`${model.name}\n`);
if (values.context === undefined) {
  console.log("| prompt | tokens cached | computed | first token | natural | | KL | KL of the positions | answer | natural answer |");
  console.log("|---|---|---|---|---|---|---|---|---|---|");
  for (const { name, file, called } of prompts) {
    const { compiled: prompt } = compiled(name, file);
    await encodeMissing(
      model,
      store,
      prompt.plan.pieces.filter(isBlockPiece).map(({ block }) => block),
      { signal },
    );
    const [own, natural] = [await answeredOften(prompt.plan), await answeredOften(naturalPlan(prompt, model))];
    const places = await model.logits(withoutCache(prompt.plan), { store });
    const [own_ms, natural_ms] = [own.first_token_ms, natural.first_token_ms];
    const cells = [
      `\`${called}\``,
      prompt.cachedTokens,
      prompt.computedTokens,
      `${own_ms.toFixed(0)} ms`,
      `${natural_ms.toFixed(0)} ms`,
      `${(natural_ms / own_ms).toFixed(1)} times faster`,
      divergence(natural.logits, own.logits).toFixed(3),
      divergence(natural.logits, places).toFixed(3),
      `\`${own.text}\``,
      own.text === natural.text ? "the same" : `\`${natural.text}\``,
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
} else {
  const contexts = values.context.split(",");
  console.log(`| prompt | natural answer | ${contexts.map((each) => `KL, ${each} | answer, ${each}`).join(" | ")} |`);
  console.log(`|---|---|${contexts.map(() => "---|---|").join("")}`);
  const total = contexts.map(() => ({ kl: 0, same: 0 }));
  for (const { name, file, called } of prompts) {
    const natural = naturalPlan(compiled(name, file).compiled, model);
    const reference = await answered(natural);
    const cells: string[] = [];
    for (const [i, context] of contexts.entries()) {
      const { plan } = compiled(name, file, context).compiled;
      const { text, logits } = await answered(plan);
      const kl = divergence(reference.logits, logits);
      total[i]!.kl += Math.min(kl, 1) / prompts.length;
      if (text === reference.text) total[i]!.same++;
      cells.push(kl.toFixed(3), text === reference.text ? "the same" : `\`${text}\``);
    }
    console.log(`| \`${called}\` | \`${reference.text}\` | ${cells.join(" | ")} |`);
  }
  console.log(
    `| mean KL, capped at 1 | | ${total.map(({ kl, same }) => `${kl.toFixed(3)} | ${same} of ${prompts.length} the same`).join(" | ")} |\n`,
  );
  console.log(
    `| schema | tokens stored | ${contexts.map((each) => `CPU s to encode, ${each}`).join(" | ")} |\n|---|---|${contexts.map(() => "---|").join("")}`,
  );
  for (const name of new Set(prompts.map((each) => each.name))) {
    const file = prompts.find((each) => each.name === name)!.file;
    const costs = [];
    for (const context of contexts) {
      const blocks = blocksOf(compiled(name, file, context).layout);
      const fresh = openBlockStore({ memory: { budget: 2 ** 31 } });
      const start = process.cpuUsage();
      const { tokens } = await encodeMissing(model, fresh, blocks, { signal });
      const { user, system } = process.cpuUsage(start);
      costs.push({ tokens, seconds: (user + system) / 1e6 });
      await fresh.close();
    }
    console.log(`| \`${name}\` | ${costs.at(-1)!.tokens} | ${costs.map(({ seconds }) => seconds.toFixed(1)).join(" | ")} |`);
  }
}
await store.close();
await model.close();
