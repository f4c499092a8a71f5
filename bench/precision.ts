/**
 * Answers questions over 10 documents each, spliced from float32, float16 and int8 blocks of the same KV, and counts
 * the right answers; with `--encodings`, spliced from documents encoded exactly and in 8 bits, both stored as int8. Ten
 * questions share their documents, namely the ones they are about, so that each document is encoded once. Results are
 * appended to a file: a run continues where an earlier one ended.
 *
 *     npx tsx bench/precision.ts --passages passages.jsonl.gz --questions nq.jsonl.gz --questions xquad.jsonl.gz --results precision.jsonl
 *
 * A question file has `{question, answers, gold, distractors}` per line, a passage file `{id, title, text}`.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import {
  type Block,
  type BlockStore,
  ENCODINGS,
  type Encoding,
  loadModel,
  type Model,
  PRECISIONS,
  type Precision,
} from "../engine/index.js";
import type { Float32Block } from "../engine/kv/block.js";
import { pairedDifference } from "../rag/eval/bootstrap.js";
import { scoreAnswer } from "../rag/index.js";
import { keptAs } from "../test/support/engine/plain-kv.js";

type Question = { question: string; answers: string[]; gold: string; distractors: string[] };
type Result = { file: string; index: number; answers: Record<string, string> };

/** What is compared, the first with each of the others. */
type Way = { readonly name: string; readonly precision: Precision; readonly encoding: Encoding };

const { values } = parseArgs({
  options: {
    questions: { type: "string", multiple: true, default: [] },
    passages: { type: "string" },
    results: { type: "string" },
    limit: { type: "string", default: "500" },
    seconds: { type: "string", default: "Infinity" },
    encodings: { type: "boolean", default: false },
  },
});
const WAYS: readonly Way[] = values.encodings
  ? ENCODINGS.map((encoding) => ({ name: encoding, precision: "int8", encoding }))
  : PRECISIONS.map((precision) => ({ name: precision, precision, encoding: "exact" }));
const [FIRST] = WAYS as readonly [Way, ...Way[]];
const DOCUMENTS = 10;
const NEW_TOKENS = 24;
const until = performance.now() + 1000 * Number(values.seconds);

const linesOf = (path: string) =>
  (path.endsWith(".gz") ? gunzipSync(readFileSync(path)) : readFileSync(path)).toString("utf8").trim().split("\n");
const done: Result[] = existsSync(values.results!) ? linesOf(values.results!).map((line) => JSON.parse(line) as Result) : [];
const passages = new Map(
  linesOf(values.passages!)
    .map((line) => JSON.parse(line) as { id: string; title: string; text: string })
    .map((each) => [each.id, each]),
);
const files = values.questions.map((path) => ({
  file: basename(path),
  questions: linesOf(path).map((line) => JSON.parse(line) as Question),
}));

const models = new Map<Way, Model>();
for (const way of WAYS) models.set(way, await loadModel(way));
/** They encode, and keep what is encoded in float32. */
const encoders = new Map<Encoding, Model>();
for (const { encoding } of WAYS) if (!encoders.has(encoding)) encoders.set(encoding, await loadModel({ encoding, precision: "float32" }));
const model = models.get(FIRST)!;
const { prompt, maxDocumentTokens } = model.card;
const control = (text: string) => model.tokenizer.encode(text, { control: true });
const system = await encoded(control(prompt.system));

type Document = { readonly tokens: readonly number[]; readonly blocks: ReadonlyMap<Encoding, Float32Block> };

async function encoded(tokens: readonly number[]): Promise<Document> {
  const blocks = new Map<Encoding, Float32Block>();
  for (const [encoding, encoder] of encoders) blocks.set(encoding, (await encoder.encode({ tokens })) as Float32Block);
  return { tokens, blocks };
}

/** The documents of ten questions; if two are about the same, another fills the place. */
async function documentsOf(questions: readonly Question[]): Promise<Document[]> {
  const ids = new Set([...questions.map(({ gold }) => gold), ...questions[0]!.distractors]);
  const documents: Document[] = [];
  for (const id of [...ids].slice(0, DOCUMENTS)) {
    const { title, text } = passages.get(id)!;
    documents.push(
      await encoded(
        model.tokenizer.encode(prompt.document.replace("{title}", () => title).replace("{text}", () => text)).slice(0, maxDocumentTokens),
      ),
    );
  }
  return documents;
}

async function answer(file: string, index: number, { question }: Question, documents: readonly Document[]): Promise<Result> {
  const laid = [system, ...shuffled(documents, index)];
  let at = 0;
  const pieces = [
    ...laid.map(({ tokens }) => ({ block: { tokens }, at: (at += tokens.length) - tokens.length })),
    { tokens: control(prompt.question.replace("{question}", () => question)), at },
  ];
  const result = { file, index, answers: {} } as Result;
  for (const [{ name, precision, encoding }, own] of models) {
    const kept = new Map(laid.map(({ tokens, blocks }) => [own.keyOf({ tokens }), keptAs(blocks.get(encoding)!, precision)]));
    let text = "";
    for await (const token of own.generate({ pieces }, { store: storeOf(kept), maxNewTokens: NEW_TOKENS })) text += token.text;
    result.answers[name] = text;
  }
  return result;
}

// Ten of each file in turn, so that a run that ends early has equally many of each.
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
for (const each of [...models.values(), ...encoders.values()]) await each.close();

const gold = new Map(files.map(({ file, questions }) => [file, questions]));
const scoreOf = ({ file, index, answers }: Result, { name }: Way) => scoreAnswer(answers[name]!, gold.get(file)![index]!.answers);
const rows: Record<string, Record<string, string | number>> = {};
for (const { file } of [...files, { file: "all" }]) {
  const results = done.filter((result) => file === "all" || result.file === file);
  const count = (holds: (result: Result) => unknown) => results.filter(holds).length;
  const percent = (holds: (result: Result) => unknown) => ((100 * count(holds)) / results.length).toFixed(1);
  const containsBy = (way: Way) => (result: Result) => 100 * Number(scoreOf(result, way).contains);
  for (const way of WAYS) {
    const { interval } = pairedDifference(results.map((result) => containsBy(way)(result) - containsBy(FIRST)(result)));
    rows[`${file} ${way.name}`] = {
      questions: results.length,
      contains: percent((result) => scoreOf(result, way).contains),
      exact: percent((result) => scoreOf(result, way).exact),
      [`same answer as ${FIRST.name}`]: percent((result) => result.answers[way.name] === result.answers[FIRST.name]),
      [`right, ${FIRST.name} wrong`]: count((result) => scoreOf(result, way).contains && !scoreOf(result, FIRST).contains),
      [`wrong, ${FIRST.name} right`]: count((result) => !scoreOf(result, way).contains && scoreOf(result, FIRST).contains),
      "95 % of differences": interval.map((each) => each.toFixed(1)).join(" to "),
    };
  }
}
console.table(rows);

function storeOf(blocks: ReadonlyMap<string, Block>): BlockStore {
  return {
    get: async (key) => blocks.get(key),
    has: async (key) => blocks.has(key),
    put: async () => {},
    delete: async () => {},
    async *keys() {},
    close: async () => {},
  };
}

/** In an order that depends only on the seed (mulberry32). */
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
