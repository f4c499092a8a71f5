import { SingleBar } from "cli-progress";
import { Command, InvalidArgumentError, Option } from "commander";
import { ACTIVATIONS, DEFAULT_ACTIVATIONS, DEFAULT_LINK, openStore, type Activations, type Link, type Precision } from "../engine/index.js";
import { EVAL_MODES, evaluate, readQuestions, type EvalMode, type EvalResult } from "../rag/index.js";
import { withInterrupt } from "./interrupt.js";
import { linkOf } from "./link.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { precisionOption } from "./precision.js";

type Options = ModelOptions & {
  readonly questions: string;
  readonly passages: string;
  readonly documents: number;
  readonly link?: readonly Link[];
  readonly linkTokens?: readonly number[];
  readonly modes: readonly EvalMode[];
  readonly limit?: number;
  readonly seed: number;
  readonly precision?: Precision;
  readonly activations?: Activations;
  readonly json?: boolean;
};

export function evalCommand(): Command {
  return withModelOptions(new Command("eval"))
    .description("measure how well questions with known answers are answered: by full prefill, spliced, and spliced without re-encoding")
    .requiredOption("--questions <file>", ".jsonl or .jsonl.gz with question, answers, gold and distractors (ids of passages)")
    .requiredOption("--passages <file>", ".jsonl or .jsonl.gz with id, title and text")
    .option("--documents <n>", "documents of one question, the gold one among them", positiveNumber, 10)
    .option("--link <list>", "ways of linking in mode spliced, such as none,0.15,0.15+last,head=8 (default: none)", linkList)
    .option("--link-tokens <list>", "counts of link tokens after each document (default: 0,1,4 as far as the model has them)", numberList)
    .option("--modes <list>", "of full, spliced, unrotated", modeList, EVAL_MODES)
    .option("--limit <n>", "questions from the file's start", positiveNumber)
    .option("--seed <n>", "another order of each question's documents", wholeNumber, 0)
    .addOption(precisionOption())
    .addOption(new Option("--activations <name>", `how activations enter the linear layers; float32 is exact, and slower (default: ${DEFAULT_ACTIVATIONS})`).choices(ACTIVATIONS))
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Scores are percents after the usual normalisation of SQuAD: exact match, share of
answers that contain a gold answer, and F1. unrotated leaves each document at the
positions that it was encoded at. Where full is run as well, KL and the first token
tell how near the others come to it, whatever the answers say.

Examples:
  $ kvsplice eval --questions examples/eval/questions.jsonl --passages examples/eval/passages.jsonl
  $ kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --modes spliced --link-tokens 0 --limit 100
  $ kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --modes full,spliced --link none,0.15,0.3
  $ kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --modes spliced --precision float32 --activations float32
  $ kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --json | jq '.results[] | {mode, link_tokens, contains}'`,
    )
    .action(run);
}

/** Ten of the longest documents that the model was trained on take 190 MB as float32. */
const MEMORY_BYTES = 2 ** 30;

function positiveNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("Give a whole number from 1.");
  return Number(text);
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Give a whole number from 0.");
  return Number(text);
}

function numberList(text: string): number[] {
  const counts = text.split(",");
  if (!counts.every((count) => /^\d+$/.test(count))) throw new InvalidArgumentError("Give whole numbers with commas between, as in 0,1,4.");
  return counts.map(Number);
}

function linkList(text: string): Link[] {
  return text.split(",").map((name) => linkOf(name) ?? DEFAULT_LINK);
}

function modeList(text: string): EvalMode[] {
  return text.split(",").map((name) => {
    const mode = EVAL_MODES.find((each) => each === name);
    if (!mode) throw new InvalidArgumentError(`There is no mode "${name}"; choose from ${EVAL_MODES.join(", ")}.`);
    return mode;
  });
}

async function run(options: Options): Promise<void> {
  const { questions: questionsPath, passages, documents, limit, seed, link, linkTokens, modes } = options;
  await withInterrupt(async (signal) => {
    const questions = await readQuestions(questionsPath, passages, { documents, limit, seed });
    const { activations, json } = options;
    const choice = await chooseModel(options, undefined);
    await withModel({ ...choice, ...(activations && { activations }), ...(json && { json }), signal }, async (model) => {
      // Memory alone, whatever the environment names: a question's blocks are deleted after it.
      const store = openStore({ memory: { budget: MEMORY_BYTES } });
      const bar = new SingleBar({
        format: "{bar} {percentage}% | {value}/{total} questions | {first} | {eta_formatted} left",
        hideCursor: true,
        stream: process.stderr,
        fps: 10,
      });
      const quiet = options.json === true || !process.stderr.isTTY;
      if (!quiet) bar.start(questions.length, 0, { first: "" });
      try {
        const results = await evaluate(model, questions, {
          modes,
          links: link,
          linkTokens,
          store,
          signal,
          onProgress: (done, [first]) => void (quiet || bar.update(done, { first: `${first?.mode} contains ${first?.contains.toFixed(1)}` })),
        });
        if (!quiet) bar.stop();
        if (options.json) process.stdout.write(`${JSON.stringify({ model: model.name, precision: model.precision, activations: options.activations ?? DEFAULT_ACTIVATIONS, documents, seed, results })}\n`);
        else process.stdout.write(`${table(results)}\n`);
      } finally {
        if (!quiet) bar.stop();
        await store.close();
      }
    });
  });
}

function table(results: readonly EvalResult[]): string {
  const header = ["mode", "link", "link tokens", "questions", "exact match", "contains", "F1", "KL", "same first", "recomputed", "first token", "s/question"];
  const rows = results.map(({ mode, link, link_tokens, questions, exact_match, contains, f1, kl, same_first_token, recomputed, first_token_ms, seconds_per_question }) => [
    mode,
    mode === "spliced" ? link : "",
    `${link_tokens}`,
    `${questions}`,
    ...[exact_match, contains, f1].map((percent) => percent.toFixed(1)),
    kl?.toFixed(3) ?? "",
    same_first_token === undefined ? "" : `${same_first_token.toFixed(0)} %`,
    `${recomputed.toFixed(0)} %`,
    `${first_token_ms.toFixed(0)} ms`,
    seconds_per_question.toFixed(2),
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  return [header, ...rows].map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ")).join("\n");
}
