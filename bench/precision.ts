/**
 * Answers questions over 10 documents each, spliced from float32, float16 and int8 blocks of the same KV, and counts
 * the right answers. Ten questions share their documents, those that they were asked about, so that each document is
 * encoded once. Results are appended to a file: a run goes on where an earlier one ended.
 *
 *     npx tsx bench/precision.ts --passages passages.jsonl.gz --questions nq.jsonl.gz --questions xquad.jsonl.gz --results precision.jsonl
 *
 * A question file has `{question, answers, gold, distractors}` a line, a passage file `{id, title, text}`.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { loadModel, PRECISIONS, type Block, type BlockStore, type Model, type Precision } from "../engine/index.js";
import type { Float32Block } from "../engine/kv/block.js";
import { scoreAnswer } from "../rag/index.js";
import { keptAs } from "../test/engine/plain-kv.js";

type Question = { question: string; answers: string[]; gold: string; distractors: string[] };
type Result = { file: string; index: number; answers: Record<Precision, string> };

const { values } = parseArgs({
  options: {
    questions: { type: "string", multiple: true, default: [] },
    passages: { type: "string" },
    results: { type: "string" },
    limit: { type: "string", default: "500" },
    seconds: { type: "string", default: "Infinity" },
  },
});
const DOCUMENTS = 10;
const NEW_TOKENS = 24;
const until = performance.now() + 1000 * Number(values.seconds);

const linesOf = (path: string) => (path.endsWith(".gz") ? gunzipSync(readFileSync(path)) : readFileSync(path)).toString("utf8").trim().split("\n");
const done: Result[] = existsSync(values.results!) ? linesOf(values.results!).map((line) => JSON.parse(line) as Result) : [];
const passages = new Map(linesOf(values.passages!).map((line) => JSON.parse(line) as { id: string; title: string; text: string }).map((each) => [each.id, each]));
const files = values.questions.map((path) => ({ file: basename(path), questions: linesOf(path).map((line) => JSON.parse(line) as Question) }));

const models = Object.fromEntries(await Promise.all(PRECISIONS.map(async (precision) => [precision, await loadModel({ precision })]))) as Record<Precision, Model>;
const model = models.float32;
const { prompt, maxDocumentTokens } = model.card;
const control = (text: string) => model.tokenizer.encode(text, { control: true });
const system = await encoded(control(prompt.system));

type Document = { readonly tokens: readonly number[]; readonly block: Float32Block };

async function encoded(tokens: readonly number[]): Promise<Document> {
  return { tokens, block: (await model.encode({ tokens })) as Float32Block };
}

/** The documents of ten questions; where two ask about one, others take its place. */
async function documentsOf(questions: readonly Question[]): Promise<Document[]> {
  const ids = new Set([...questions.map(({ gold }) => gold), ...questions[0]!.distractors]);
  const documents: Document[] = [];
  for (const id of [...ids].slice(0, DOCUMENTS)) {
    const { title, text } = passages.get(id)!;
    documents.push(await encoded(model.tokenizer.encode(prompt.document.replace("{title}", () => title).replace("{text}", () => text)).slice(0, maxDocumentTokens)));
  }
  return documents;
}

async function answer(file: string, index: number, { question }: Question, documents: readonly Document[]): Promise<Result> {
  const blocks = [system, ...shuffled(documents, index)];
  let at = 0;
  const pieces = [...blocks.map(({ tokens }) => ({ block: { tokens }, at: (at += tokens.length) - tokens.length })), { tokens: control(prompt.question.replace("{question}", () => question)), at }];
  const result = { file, index, answers: {} } as Result;
  for (const precision of PRECISIONS) {
    const kept = new Map(blocks.map(({ tokens, block }) => [models[precision].keyOf({ tokens }), keptAs(block, precision)]));
    let text = "";
    for await (const token of models[precision].generate({ pieces }, { store: storeOf(kept), maxNewTokens: NEW_TOKENS })) text += token.text;
    result.answers[precision] = text;
  }
  return result;
}

// Ten of each file in turn, so that a run that ends early has as many of each.
for (let first = 0; first < Number(values.limit); first += DOCUMENTS) {
  for (const { file, questions } of files) {
    const missing = questions
      .map((question, index) => ({ question, index }))
      .slice(first, first + DOCUMENTS)
      .filter(({ index }) => !done.some((result) => result.file === file && result.index === index));
    if (performance.now() > until || missing.length === 0) continue;
    const documents = await documentsOf(questions.slice(first, first + DOCUMENTS));
    for (const { question, index } of missing) {
      const result = await answer(file, index, question, documents);
      appendFileSync(values.results!, `${JSON.stringify(result)}\n`);
      done.push(result);
    }
  }
}
for (const each of Object.values(models)) await each.close();

const gold = new Map(files.map(({ file, questions }) => [file, questions]));
const scoreOf = ({ file, index, answers }: Result, precision: Precision) => scoreAnswer(answers[precision], gold.get(file)![index]!.answers);
const rows: Record<string, Record<string, string | number>> = {};
for (const { file } of [...files, { file: "all" }]) {
  const results = done.filter((result) => file === "all" || result.file === file);
  const count = (holds: (result: Result) => unknown) => results.filter(holds).length;
  const percent = (holds: (result: Result) => unknown) => ((100 * count(holds)) / results.length).toFixed(1);
  for (const precision of PRECISIONS) {
    rows[`${file} ${precision}`] = {
      questions: results.length,
      contains: percent((result) => scoreOf(result, precision).contains),
      exact: percent((result) => scoreOf(result, precision).exact),
      "same answer as float32": percent((result) => result.answers[precision] === result.answers.float32),
      "right, float32 wrong": count((result) => scoreOf(result, precision).contains && !scoreOf(result, "float32").contains),
      "wrong, float32 right": count((result) => !scoreOf(result, precision).contains && scoreOf(result, "float32").contains),
    };
  }
}
console.table(rows);

function storeOf(blocks: ReadonlyMap<string, Block>): BlockStore {
  return { get: async (key) => blocks.get(key), has: async (key) => blocks.has(key), put: async () => {}, delete: async () => {}, async *keys() {}, close: async () => {} };
}

/** In an order that the seed alone tells (mulberry32). */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  let state = seed + 1;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
