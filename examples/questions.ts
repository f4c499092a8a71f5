/**
 * Answers the 40 questions of examples/questions.jsonl over examples/corpus and counts the correct answers, with the best
 * source next to the question or farthest from it, and with 0, 1 and 4 link tokens after each document.
 *
 *     npm run questions
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { loadModel, openBlockStore } from "kvsplice/engine";
import { openCorpus, scoreAnswer } from "kvsplice/rag";

type Question = { question: string; answers: string[] };

const MEMORY_BYTES = 1 << 30;
const here = import.meta.dirname;
const dir = join(here, "..", ".kvsplice", "demo");

const model = await loadModel();
const store = openBlockStore({ memory: { budget: MEMORY_BYTES }, disk: { path: dir } });
const corpus = await openCorpus(dir, { model, store, create: true });
console.log("Precomputing examples/corpus (only what is missing) ...");
await corpus.precompute([join(here, "corpus")]);
const questions = (await readFile(join(here, "questions.jsonl"), "utf8"))
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Question);

const rows: Record<string, string | number>[] = [];
for (const best of ["last", "first"] as const) {
  for (const linkTokens of [0, 1, 4]) {
    let right = 0;
    for (const { question, answers } of questions) {
      const found = await corpus.retrieve(question);
      // A plan puts the best source last, next to the question.
      const plan = corpus.plan(question, best === "last" ? found : found.toReversed(), { linkTokens });
      let answer = "";
      for await (const { text } of model.generate(plan, { store, temperature: 0 })) answer += text;
      right += scoreAnswer(answer, answers).contains;
    }
    rows.push({ "best source": best, "link tokens": linkTokens, right, of: questions.length });
  }
}
console.table(rows);
await corpus.close();
await model.close();
