/**
 * Precomputes the articles of examples/corpus, then answers questions over them, both spliced and with full prefill.
 *
 *     npm run demo
 */
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { SingleBar } from "cli-progress";
import { loadModel, openBlockStore, withoutCache } from "kvsplice/engine";
import { openCorpus } from "kvsplice/rag";

const QUESTIONS = 8;
const MEMORY_BYTES = 1 << 30;
const here = import.meta.dirname;
const dir = join(here, "..", ".kvsplice", "demo");

const print = (text: string) => void process.stdout.write(text);
const ms = (value: number) => `${value.toFixed(0)} ms`;

const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
const { signal } = interrupt;

const model = await loadModel();
const store = openBlockStore({ memory: { budget: MEMORY_BYTES }, disk: { path: dir } });
const corpus = await openCorpus(dir, { model, store, create: true });

try {
  print("Precomputing examples/corpus (only on the first run)\n");
  const bar = new SingleBar({
    format: "{bar} {percentage}% | {encoded} chunks, {tokens} tokens",
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 5000,
  });
  bar.start(1, 0, { encoded: 0, tokens: 0 });
  const report = await corpus.precompute([join(here, "corpus")], {
    signal,
    onProgress: ({ bytes, encoded, tokens }) => {
      bar.setTotal(bytes.total);
      bar.update(bytes.done, { encoded, tokens });
    },
  });
  bar.stop();
  print(`${report.chunks} chunks of ${report.files} files, ${report.tokens} tokens; ${report.encoded} newly encoded.\n`);

  await corpus.ready();
  const rows: Record<string, string | number>[] = [];
  const times: { spliced: number; full: number }[] = [];
  for (const line of (await readFile(join(here, "questions.jsonl"), "utf8")).trim().split("\n").slice(0, QUESTIONS)) {
    const { question, answers } = JSON.parse(line) as { question: string; answers: string[] };
    print(`\n${question}\n  spliced:      `);
    const answer = await corpus.ask(question, { signal });
    const text = await stream(answer);
    const spliced = await answer.stats;
    print(`   [first token after ${ms(spliced.first_token_ms)}]\n  full prefill: `);
    const full = model.generate(withoutCache(answer.plan), { signal });
    await stream(full);
    const { first_token_ms } = await full.stats;
    print(`   [first token after ${ms(first_token_ms)}]\n  sources:      ${answer.sources.map(({ path }) => basename(path)).join(", ")}\n`);
    rows.push({
      question: question.length > 44 ? `${question.slice(0, 43)}…` : question,
      answer: text.trim().slice(0, 24),
      right: answers.some((gold) => text.toLowerCase().includes(gold.toLowerCase())) ? "yes" : "no",
      cached: spliced.cached_tokens,
      new: spliced.computed_tokens,
      fetch: ms(spliced.fetch_ms),
      spliced: ms(spliced.first_token_ms),
      full: ms(first_token_ms),
      sooner: `${(first_token_ms / spliced.first_token_ms).toFixed(0)} x`,
    });
    times.push({ spliced: spliced.first_token_ms, full: first_token_ms });
  }
  print("\nTime to the first token in this run, from the plan on (includes fetching, but not retrieval):\n");
  console.table(rows);
  const [spliced, full] = [median(times.map((time) => time.spliced)), median(times.map((time) => time.full))];
  print(`Median: spliced ${ms(spliced)}, full prefill ${ms(full)}: ${(full / spliced).toFixed(1)} times faster.\n`);
} catch (error) {
  print(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = signal.aborted ? 130 : 1;
} finally {
  await corpus.close();
  await model.close();
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

async function stream(tokens: AsyncIterable<{ text: string }>): Promise<string> {
  let all = "";
  for await (const { text } of tokens) {
    print(text);
    all += text;
  }
  return all;
}
