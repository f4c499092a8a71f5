import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import {
  ACTIVATIONS,
  type Activations,
  DEFAULT_ACTIVATIONS,
  DEFAULT_DEVICE,
  DEFAULT_LINK,
  KvspliceError,
  type Link,
  openBlockStore,
  type Precision,
} from "../engine/index.js";
import { EVAL_MODES, type EvalMode, type EvalResult, evaluate, type QuestionOutcome, readQuestions } from "../rag/index.js";
import { withInterrupt } from "./interrupt.js";
import { linkOf } from "./link.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { positiveNumber } from "./positive-number.js";
import { precisionOption } from "./precision.js";
import { progressBar } from "./progress.js";

type Options = ModelOptions & {
  readonly questions: readonly string[];
  readonly resume?: string;
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
    .description("measure accuracy on questions with known answers: with full prefill, spliced, and spliced without re-encoding")
    .requiredOption(
      "--questions <file>",
      ".jsonl or .jsonl.gz with question, answers, gold and distractors (ids of passages); can be repeated",
      collected,
    )
    .requiredOption("--passages <file>", ".jsonl or .jsonl.gz with id, title and text")
    .option("--documents <n>", "documents per question, including the gold one", positiveNumber, 10)
    .option("--link <list>", "ways of linking in mode spliced, such as none,0.15,0.15+last,head=8 (default: none)", linkList)
    .option("--link-tokens <list>", "numbers of link tokens after each document (default: those of 0,1,4 that the model has)", numberList)
    .option("--modes <list>", "some of full, spliced, unrotated", modeList, EVAL_MODES)
    .option("--limit <n>", "use only the first questions of each file", positiveNumber)
    .option("--resume <file>", "file for the outcome of each question; questions already in it are not measured again")
    .option("--seed <n>", "seed for the order of each question's documents", wholeNumber, 0)
    .addOption(precisionOption())
    .addOption(
      new Option(
        "--activations <name>",
        `precision of activations in the linear layers; float32 is exact but slower (default: ${DEFAULT_ACTIVATIONS})`,
      ).choices(ACTIVATIONS),
    )
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Scores are percentages after the usual SQuAD normalisation: exact match, share of
answers that contain a gold answer, and F1. unrotated leaves each document at the
positions it was encoded at. If full runs as well, KL and the first token show how
close the others come to it, whatever the answers are, and the difference in
contains has a 95 % interval (paired bootstrap).

Examples:
  $ kvsplice eval --questions examples/eval/questions.jsonl --passages examples/eval/passages.jsonl
  $ kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --modes spliced --link-tokens 0 --limit 100
  $ kvsplice eval --questions nq.jsonl.gz --questions xquad.jsonl.gz --passages passages.jsonl.gz --modes full,spliced --link none,0.15,0.3 --resume out.jsonl
  $ kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --modes spliced --precision float32 --activations float32
  $ kvsplice eval --questions nq.jsonl.gz --passages passages.jsonl.gz --json | jq '.results[] | {mode, link_tokens, contains}'`,
    )
    .action(run);
}

function collected(file: string, files: readonly string[] = []): string[] {
  return [...files, file];
}

/** Ten documents of the greatest length that the model was trained on take 190 MB as float32. */
const MEMORY_BYTES = 2 ** 30;

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Give a whole number, 0 or more.");
  return Number(text);
}

function numberList(text: string): number[] {
  const counts = text.split(",");
  if (!counts.every((count) => /^\d+$/.test(count)))
    throw new InvalidArgumentError("Give whole numbers separated by commas, such as 0,1,4.");
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
  const { questions: paths, passages, documents, limit, seed, link, linkTokens, modes, resume } = options;
  const { device = DEFAULT_DEVICE, answerOn = "device" } = options;
  await withInterrupt(async (signal) => {
    const sets = await Promise.all(
      paths.map(async (path) => ({ set: nameOf(path), questions: await readQuestions(path, passages, { documents, limit, seed }) })),
    );
    const total = sets.reduce((sum, { questions }) => sum + questions.length, 0);
    const known = resume === undefined ? undefined : outcomesIn(resume);
    const { activations, json } = options;
    const choice = await chooseModel(options, undefined);
    await withModel({ ...choice, ...(activations && { activations }), ...(json && { json }), signal }, async (model) => {
      // Only memory, whatever the environment sets.
      const store = openBlockStore({ memory: { budget: MEMORY_BYTES } });
      const bar = progressBar("{bar} {percentage}% | {value}/{total} questions | {first} | {eta_formatted} left", options);
      try {
        const results: SetResult[] = [];
        let before = 0;
        for (const { set, questions } of sets) {
          const own = await evaluate(model, questions, {
            modes,
            links: link,
            linkTokens,
            store,
            known,
            device: device === "cpu" ? undefined : `${device}, answers on ${answerOn}`,
            signal,
            onOutcome: (outcome) => void (resume !== undefined && appendFileSync(resume, `${JSON.stringify(outcome)}\n`)),
            onProgress: (done, [first]) =>
              bar.tell(before + done, total, { first: `${set}: ${first?.mode} contains ${first?.contains.toFixed(1)}` }),
          });
          results.push(...own.map((result) => ({ set, ...result })));
          before += questions.length;
        }
        bar.stop();
        if (options.json)
          process.stdout.write(
            `${JSON.stringify({ model: model.name, precision: model.precision, activations: options.activations ?? DEFAULT_ACTIVATIONS, documents, seed, results })}\n`,
          );
        else process.stdout.write(`${table(results)}\n`);
      } finally {
        bar.stop();
        await store.close();
      }
    });
  });
}

type SetResult = EvalResult & { readonly set: string };

/** `qa_eval_nq` for `data/qa_eval_nq.jsonl.gz`. */
function nameOf(path: string): string {
  return basename(path).replace(/\.jsonl(\.gz)?$/, "");
}

/** What an earlier run wrote. A line cut short by a kill is skipped, and a line feed is added to it. */
function outcomesIn(path: string): Map<string, QuestionOutcome> {
  let text: string;
  try {
    text = existsSync(path) ? readFileSync(path, "utf8") : "";
    appendFileSync(path, text === "" || text.endsWith("\n") ? "" : "\n");
  } catch (cause) {
    throw new KvspliceError(
      "bad_file",
      `${path} cannot be opened for reading and writing (${(cause as NodeJS.ErrnoException).code}). Name another file with --resume.`,
      { cause },
    );
  }
  return new Map(
    text.split("\n").flatMap((line) => {
      try {
        const outcome = JSON.parse(line) as QuestionOutcome;
        return [[outcome.key, outcome] as const];
      } catch {
        return [];
      }
    }),
  );
}

function table(results: readonly SetResult[]): string {
  const header = [
    "set",
    "mode",
    "link",
    "link tokens",
    "questions",
    "exact match",
    "contains",
    "vs full (95 %)",
    "F1",
    "KL",
    "same first",
    "recomputed",
    "first token",
    "s/question",
  ];
  const rows = results.map(
    ({
      set,
      mode,
      link,
      link_tokens,
      questions,
      exact_match,
      contains,
      difference,
      interval,
      f1,
      kl,
      same_first_token,
      recomputed,
      first_token_ms,
      seconds_per_question,
    }) => [
      set,
      mode,
      mode === "spliced" ? link : "",
      `${link_tokens}`,
      `${questions}`,
      ...[exact_match, contains].map((percent) => percent.toFixed(1)),
      difference === undefined ? "" : `${signed(difference)} (${interval!.map(signed).join(" to ")})`,
      f1.toFixed(1),
      kl?.toFixed(3) ?? "",
      same_first_token === undefined ? "" : `${same_first_token.toFixed(0)} %`,
      `${recomputed.toFixed(0)} %`,
      `${first_token_ms.toFixed(0)} ms`,
      seconds_per_question.toFixed(2),
    ],
  );
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  return [header, ...rows]
    .map((row) => row.map((cell, column) => (column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join("  "))
    .join("\n");
}

function signed(points: number): string {
  return `${points < 0 ? "" : "+"}${points.toFixed(1)}`;
}
