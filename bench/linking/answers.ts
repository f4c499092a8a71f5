/**
 * The product's answers to the prompts of the PyTorch twin (`python -m kvsplice_train prompts`), in the form of its `evaluate`, so that
 * `score` reports how many are right and `beside` how close its first tokens are to the twin's.
 * Usage: npx tsx linking/answers.ts MODEL.gguf PROMPTS.json OUT.json [options], in bench/
 *   --ways "full;none;prefix;prefix+0.15;adapter;adapter+0.15"   --adapter FOLDER   --limit N   --sets NQ,XQuAD
 *   --activations float32   --precision float32   --threads N
 * It can be stopped at any time: results are written after each question, and the same command continues.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import {
  type Activations,
  type Link,
  loadModel,
  NO_LINK,
  openBlockStore,
  type Precision,
  parseLink,
  withoutCache,
} from "../../engine/index.js";
import { type BlockSource, isBlockPiece, type Plan, PlanWriter } from "../../plan/index.js";

type Prompts = {
  prefix: number[];
  documents: Record<string, number[]>;
  questions: Record<string, { documents: string[]; tokens: number[] }[]>;
};
/** `first`: the likeliest first tokens of the answer and their log-probabilities. */
type Answered = { answers: number[][]; first: [number[], number[]][]; recomputed: number; first_token_ms: number[]; look_ms: number[] };

const ANSWER_TOKENS = 24;
const LIKELIEST = 16;
const MEMORY_BYTES = 2 ** 31;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    ways: { type: "string", default: "full;prefix;prefix+0.15" },
    adapter: { type: "string" },
    limit: { type: "string" },
    sets: { type: "string" },
    activations: { type: "string", default: "int8" },
    precision: { type: "string", default: "int8" },
    threads: { type: "string" },
  },
});
const [path, promptsPath, out] = positionals as [string, string, string];
const raw = readFileSync(promptsPath);
const { prefix, documents, questions } = JSON.parse((promptsPath.endsWith(".gz") ? gunzipSync(raw) : raw).toString()) as Prompts;
const ways = values.ways.split(";");
const adapted = ways.some((way) => way.startsWith("adapter"));
const model = await loadModel({
  path,
  activations: values.activations as Activations,
  precision: values.precision as Precision,
  ...(values.threads && { threads: Number(values.threads) }),
  ...(adapted && values.adapter !== undefined && { adapters: [{ path: values.adapter }] }),
});
const store = openBlockStore({ memory: { budget: MEMORY_BYTES } });
const results: Record<string, Record<string, Answered>> = existsSync(out) ? JSON.parse(readFileSync(out, "utf8")) : {};

for (const name of values.sets?.split(",") ?? Object.keys(questions)) {
  for (const [i, question] of questions[name]!.slice(0, values.limit ? Number(values.limit) : undefined).entries()) {
    const sources = new Map<string, BlockSource>();
    for (const way of ways) {
      const found = ((results[name] ??= {})[way] ??= { answers: [], first: [], recomputed: 0, first_token_ms: [], look_ms: [] });
      if (found.answers.length > i) continue;
      const { plan, link } = laidOut(way, question);
      for (const piece of plan.pieces) {
        if (!isBlockPiece(piece) || sources.has(model.keyOf(piece.block))) continue;
        sources.set(model.keyOf(piece.block), piece.block);
        if (!(await store.get(model.keyOf(piece.block)))) await store.put(model.keyOf(piece.block), await model.encode(piece.block));
      }
      await answer(plan, link, found);
      found.recomputed = Number(/[\d.]+$/.exec(way)?.[0] ?? (way === "full" ? 1 : 0));
    }
    writeFileSync(`${out}.part`, JSON.stringify(results));
    renameSync(`${out}.part`, out);
    await store.delete([...sources.keys()]);
    console.error(`${name} ${i + 1}`);
  }
}
await store.close();
await model.close();

function laidOut(way: string, question: Prompts["questions"][string][number]): { readonly plan: Plan; readonly link: Link } {
  const [how, ...rest] = way.split("+");
  const writer = new PlanWriter().block({ tokens: prefix });
  const behind = how === "none" ? {} : how === "adapter" ? { after: prefix, adapted: true as const } : { after: prefix };
  for (const id of question.documents) writer.block({ tokens: documents[id]!, ...behind }, { loose: true });
  const { plan } = writer.fresh(question.tokens, { asks: true });
  return { plan: how === "full" ? withoutCache(plan) : plan, link: rest.length > 0 ? parseLink(rest.join("+")) : NO_LINK };
}

async function answer(plan: Plan, link: Link, found: Answered): Promise<void> {
  const tokens: number[] = [];
  let first: Float32Array | undefined;
  const generation = model.generate(plan, {
    store,
    link,
    maxNewTokens: ANSWER_TOKENS,
    temperature: 0,
    stop: model.card.stop ?? [],
    onLogits: (logits) => (first ??= logits.slice()),
  });
  for await (const { id } of generation) if (id >= 0) tokens.push(id);
  const { first_token_ms, look_ms } = await generation.stats;
  found.answers.push(tokens);
  found.first.push(likeliest(first!));
  found.first_token_ms.push(first_token_ms);
  found.look_ms.push(look_ms);
}

function likeliest(logits: Float32Array): [number[], number[]] {
  let most = -Infinity;
  for (const logit of logits) most = Math.max(most, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  const norm = most + Math.log(sum);
  const order = Array.from(logits.keys())
    .sort((a, b) => logits[b]! - logits[a]!)
    .slice(0, LIKELIEST);
  return [order, order.map((token) => logits[token]! - norm)];
}
