/**
 * What guessing an answer's tokens from the prompt saves: the 40 questions of examples/questions.jsonl over
 * examples/corpus, guessing up to a given number of tokens at a time, in turns.
 *
 *     npx tsx bench/lookup.ts
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadModel, openBlockStore } from "../engine/index.js";
import { openCorpus } from "../rag/index.js";

const GUESSES = [0, 1, 2, 3, 5];
const ROUNDS = 3;
const examples = join(import.meta.dirname, "..", "examples");
const folder = join(examples, "..", ".kvsplice", "demo");

const model = await loadModel();
const store = openBlockStore({ memory: { budget: 2 ** 30 }, disk: { path: folder } });
const corpus = await openCorpus(folder, { model, store, create: true });
await corpus.precompute([join(examples, "corpus")]);
const questions = readFileSync(join(examples, "questions.jsonl"), "utf8")
  .trim()
  .split("\n")
  .map((line) => (JSON.parse(line) as { question: string }).question);

const sums = new Map(GUESSES.map((guesses) => [guesses, { tokens: 0, drafted: 0, accepted: 0, ms: 0 }]));
for (const question of questions) {
  const plan = corpus.plan(question, await corpus.retrieve(question));
  const texts = new Set<string>();
  for (let round = -1; round < ROUNDS; round++) {
    for (const [promptLookup, sum] of sums) {
      let text = "";
      const generation = model.generate(plan, { store, promptLookup });
      for await (const token of generation) text += token.text;
      texts.add(text);
      const { generated_tokens, finish, drafted_tokens, accepted_tokens, total_ms, first_token_ms } = await generation.stats;
      if (round < 0) continue; // its blocks came from disk
      // The token that ends an answer is computed too.
      sum.tokens += generated_tokens - (finish === "end" ? 0 : 1);
      sum.drafted += drafted_tokens;
      sum.accepted += accepted_tokens;
      sum.ms += total_ms - first_token_ms;
    }
  }
  if (texts.size !== 1) throw new Error(`The answers differ: ${[...texts].join(" / ")}`);
}
console.table(
  Object.fromEntries(
    [...sums].map(([guesses, { tokens, drafted, accepted, ms }]) => [
      `up to ${guesses} at a time`,
      {
        "tokens per pass": (tokens / (tokens - accepted)).toFixed(2),
        "guesses right": drafted > 0 ? `${((100 * accepted) / drafted).toFixed(0)} %` : "",
        "ms per token": (ms / tokens).toFixed(1),
      },
    ]),
  ),
);
await corpus.close();
await store.close();
await model.close();
