/**
 * Encoding in 8 bits (`--encoding w8a8`) compared with exact encoding: processor time per token, the error of K and V, and
 * its effect on the first token of answers over ten documents of examples/corpus: the divergence (KL) of its distribution
 * from that with exactly encoded documents, and whether the likeliest token is the same. The same figures for exact
 * encoding against full prefill show the effect of splicing itself.
 *
 *     npx tsx bench/encoding.ts [FILE.gguf] [--questions N] [--json]
 */
import { readdirSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Block, loadModel, type Model, openBlockStore, type Plan, withoutCache } from "../engine/index.js";
import { type Chunk, loadFile, splitDocument } from "../rag/index.js";
import { documentSource, layOut } from "../rag/question-plan.js";
import { describeMachine } from "./compare/machine.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { questions: { type: "string", default: "40" }, json: { type: "boolean", default: false } },
});
const DOCUMENTS = 10;

const examples = new URL("../examples/", import.meta.url);
const questions = readFileSync(new URL("questions.jsonl", examples), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as { question: string; source: string });

const common = { ...(positionals[0] !== undefined && { path: positionals[0] }), precision: "float32" } as const;
const [exact, fast] = [await loadModel(common), await loadModel({ ...common, encoding: "w8a8" })];
const chunks = new Map<string, readonly Chunk[]>();
for (const name of readdirSync(new URL("corpus/", examples)).sort()) {
  const path = new URL(`corpus/${name}`, examples).pathname;
  const { documents } = await loadFile(path, readFileSync(path));
  chunks.set(name, (await Promise.all(documents.map((document) => splitDocument(document, exact)))).flat());
}

const encoded = { exact: new Map<string, Block>(), w8a8: new Map<string, Block>() };
const cost = { exact: [] as number[], w8a8: [] as number[] };
const off = { k: [] as number[], v: [] as number[] };
const store = { exact: openBlockStore({ memory: { budget: 2 ** 32 } }), w8a8: openBlockStore({ memory: { budget: 2 ** 32 } }) };

async function encode(tokens: readonly number[]): Promise<void> {
  const source = documentSource(exact, tokens);
  const key = exact.keyOf(source);
  if (encoded.exact.has(key)) return;
  for (const [name, model] of [
    ["exact", exact],
    ["w8a8", fast],
  ] as const) {
    const start = process.cpuUsage();
    const block = await model.encode(source);
    const { user, system } = process.cpuUsage(start);
    if (encoded[name].size > 0) cost[name].push((user + system) / 1000 / tokens.length); // the first one builds the graph and allocates memory
    encoded[name].set(key, block);
    await store[name].put(model.keyOf(source), block);
  }
  const [a, b] = [encoded.exact.get(key)!, encoded.w8a8.get(key)!] as unknown as Record<"k" | "v", Float32Array>[];
  for (const part of ["k", "v"] as const) off[part].push(difference(a![part], b![part]));
}

/** The root mean square of the difference, divided by that of the values. */
function difference(values: Float32Array, others: Float32Array): number {
  let [wrong, all] = [0, 0];
  values.forEach((value, i) => {
    wrong += (value - others[i]!) ** 2;
    all += value ** 2;
  });
  return Math.sqrt(wrong / all);
}

/** KL(p || q) of the distributions of two rows of logits, and whether the likeliest token is the same. */
function compared(p: Float32Array, q: Float32Array): { readonly kl: number; readonly same: boolean } {
  const [a, b] = [logarithms(p), logarithms(q)];
  return { kl: a.reduce((sum, value, i) => sum + Math.exp(value) * (value - b[i]!), 0), same: highest(a) === highest(b) };
}

function logarithms(logits: Float32Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = Math.log(logits.reduce((total, value) => total + Math.exp(value - most), 0));
  return Float64Array.from(logits, (value) => value - most - sum);
}

function highest(values: Float64Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}

const splicing: ReturnType<typeof compared>[] = [];
const rounding: ReturnType<typeof compared>[] = [];
const names = [...chunks.keys()];
const logitsOf = (model: Model, plan: Plan, name: keyof typeof store) => model.logits(plan, { store: store[name] });
for (const { question, source } of questions.slice(0, Number(options.questions))) {
  const at = names.indexOf(source);
  const others = names.map((_, i) => chunks.get(names[(at + 1 + i) % names.length]!)![0]!).slice(0, -1);
  const documents = [...chunks.get(source)!, ...others].slice(0, DOCUMENTS);
  for (const { tokens } of documents) await encode(tokens);
  const plan = layOut(
    exact,
    question,
    documents.map(({ tokens }) => tokens),
    0,
  );
  const spliced = await logitsOf(exact, plan, "exact");
  rounding.push(compared(spliced, await logitsOf(fast, plan, "w8a8")));
  splicing.push(compared(await logitsOf(exact, withoutCache(plan), "exact"), spliced));
  if (process.stderr.isTTY) process.stderr.write(`\r${rounding.length} of ${options.questions} questions`);
}
await exact.close();
await fast.close();

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const firsts = (all: readonly { readonly kl: number; readonly same: boolean }[]) => ({
  kl: mean(all.map(({ kl }) => kl)),
  same_percent: 100 * mean(all.map(({ same }) => Number(same))),
});
const result = {
  model: exact.name,
  machine: describeMachine(),
  questions: rounding.length,
  cpu_ms_per_token: { exact: median(cost.exact), w8a8: median(cost.w8a8) },
  off: { k: mean(off.k), v: mean(off.v) },
  first_token: { w8a8_from_exact: firsts(rounding), exact_from_full: firsts(splicing) },
};
if (options.json) console.log(JSON.stringify(result));
else {
  const { cpu_ms_per_token: cpu, first_token: token } = result;
  console.log(`${result.model}, ${result.questions} questions; ${result.machine.cpu}, ${result.machine.simd}\n`);
  console.log("| | exact | w8a8 |\n|---|---|---|");
  console.log(`| processor time, ms per encoded token | ${cpu.exact.toFixed(1)} | ${cpu.w8a8.toFixed(1)} |`);
  console.log(`| K and V off by | | ${result.off.k.toFixed(4)}, ${result.off.v.toFixed(4)} |`);
  console.log(
    `| first token: KL from | full prefill: ${token.exact_from_full.kl.toFixed(4)} | exact: ${token.w8a8_from_exact.kl.toFixed(4)} |`,
  );
  console.log(
    `| first token: the same as with | full prefill: ${token.exact_from_full.same_percent.toFixed(0)} % | exact: ${token.w8a8_from_exact.same_percent.toFixed(0)} % |`,
  );
}
process.exit(0);
