import { createHash } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { KvspliceError, type Link, linkText, type Model, parseLink } from "../engine/index.js";
import { audit, type Corpus, type Finding, FULL, type LinkAudit, questionsFrom, recommended, summarise } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { linkOf } from "./link.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { positiveNumber } from "./positive-number.js";
import { durationText, progressBar } from "./progress.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions &
  ModelOptions & {
    readonly store: string;
    readonly questions?: string;
    readonly limit: number;
    readonly link: readonly Link[];
    readonly tolerance: number;
    readonly topK: number;
    readonly json?: boolean;
  };

/** An audit's findings so far, one per line, in the store's folder. The next audit resumes from them. */
const FINDINGS = "audit.jsonl";

const LINKS = "none,0.05,0.15,0.3";

export function auditCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("audit")))
    .description(
      "measure, without labels, how far answers over spliced documents are from full attention, and choose how to link documents",
    )
    .requiredOption("--store <dir>", "folder that `kvsplice precompute` filled")
    .option("--questions <file>", "questions, one per line (default: the model makes some from the corpus's documents)")
    .option("--limit <n>", "maximum number of questions", positiveNumber, 20)
    .option("--link <list>", "ways of linking to compare", linkList, linkList(LINKS))
    .option(
      "--tolerance <nats>",
      "maximum mean divergence from full attention's answers, 0 to 1, for a way of linking to be recommended",
      share,
      0.35,
    )
    .option("--top-k <n>", "documents to put into each prompt", positiveNumber, 10)
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Each question is answered with full attention and with each way of linking. The
divergence is the distance of a way's distribution from that of full attention's
answer, at most 1 per question. The cheapest way within the tolerance is saved in
the corpus, and \`--link auto\`, the default of the other commands, uses it. You can
stop at any time: the next audit resumes from there.

Examples:
  $ kvsplice audit --store handbook.kv
  $ kvsplice audit --store handbook.kv --questions asked.txt --limit 50 --link none,0.1,0.15,0.15+last,0.3
  $ kvsplice audit --store handbook.kv --tolerance 0.2 --json | jq .recommended`,
    )
    .action(run);
}

function share(text: string): number {
  const number = Number(text);
  if (!(number >= 0 && number <= 1)) throw new InvalidArgumentError("Give a number from 0 to 1.");
  return number;
}

function linkList(text: string): Link[] {
  return text.split(",").map((name) => {
    const link = linkOf(name);
    if (!link) throw new InvalidArgumentError("auto uses the result of an audit. Name the ways of linking to compare.");
    return link;
  });
}

async function run(options: Options): Promise<void> {
  const { questions: path, limit, link: links, tolerance, topK, json } = options;
  const given = path === undefined ? undefined : questionsOf(path, limit);
  await withCorpus({ ...options, create: false }, async (corpus, model, signal, store) => {
    await corpus.ready();
    const tell = (line: string) => void process.stderr.write(`${line}\n`);
    // Findings are valid for one model, one state of the corpus and one number of documents.
    const subject = createHash("sha256").update(`${model.id} ${corpus.generation} ${topK}`).digest("hex").slice(0, 16);
    const file = join(options.store, FINDINGS);
    const questions =
      given ?? (await madeQuestions({ file, subject: `${subject} ${limit} questions`, model, corpus, limit, json, signal, tell }));
    if (questions.length === 0)
      throw new KvspliceError("bad_argument", "The model made no questions. Give some with --questions, one per line.");
    tell(`${counted(questions.length, "question")} in ${links.length + 1} ways; the time needed is known after the first.`);

    const names = [FULL, ...links.map(linkText)];
    const known = linesOf<Finding>(file, subject).filter(({ question, link }) => questions.includes(question) && names.includes(link));
    const bar = progressBar("{bar} {percentage}% | {value}/{total} | {eta_formatted} left", { json });
    let done = 0;
    const planOf = async (question: string) => corpus.plan(question, await corpus.retrieve(question, { topK, floor: false, signal }));
    const start = performance.now();
    try {
      const findings = await audit(model, questions, planOf, {
        links,
        known,
        signal,
        store,
        onFinding(finding) {
          appendFileSync(file, `${JSON.stringify({ subject, ...finding })}\n`);
          bar.tell(++done, questions.length * names.length - known.length, {});
          if (done === names.length)
            tell(`About ${durationText(((performance.now() - start) / 1000) * (questions.length - 1))} for the rest.`);
        },
      });
      bar.stop();
      const audits = summarise(findings, [FULL, ...new Set(findings.map(({ link }) => link).filter((link) => link !== FULL))]);
      const best = recommended(audits, tolerance);
      if (best) corpus.link = parseLink(best.link);
      if (json)
        process.stdout.write(
          `${JSON.stringify({ model: model.name, questions: questions.length, tolerance, recommended: best?.link ?? null, audits })}\n`,
        );
      else
        process.stdout.write(
          `${table(audits)}\n\n${best ? `Recommended: --link ${best.link}. From now on, auto means this for the corpus.` : `No way of linking is within ${tolerance} of full attention. Recompute more (--link 0.5), allow more (--tolerance), or train an adapter (docs/linking.md).`}\n`,
        );
    } finally {
      bar.stop();
    }
  });
}

function questionsOf(path: string, limit: number): string[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new KvspliceError(
      "bad_file",
      `${path} cannot be read (${(cause as NodeJS.ErrnoException).code}). Give a file with one question per line.`,
      { cause },
    );
  }
  const questions = [
    ...new Set(
      text
        .split("\n")
        .map((line) => line.trim())
        .filter((line) => line !== ""),
    ),
  ].slice(0, limit);
  if (questions.length === 0) throw new KvspliceError("bad_file", `${path} has no questions. Write one per line.`);
  return questions;
}

type Making = {
  readonly file: string;
  readonly subject: string;
  readonly model: Model;
  readonly corpus: Corpus;
  readonly limit: number;
  readonly json: boolean | undefined;
  readonly signal: AbortSignal;
  readonly tell: (line: string) => void;
};

/** Questions that the model makes from the corpus's documents, or made in an earlier audit. */
async function madeQuestions({ file, subject, model, corpus, limit, json, signal, tell }: Making): Promise<readonly string[]> {
  const before = linesOf<{ readonly made: readonly string[] }>(file, subject).at(-1);
  if (before) return before.made;
  tell(`The model makes ${counted(limit, "question")} from the corpus's documents.`);
  const bar = progressBar("{bar} {percentage}% | {value}/{total} | {eta_formatted} left", { json });
  try {
    const made = await questionsFrom(
      model,
      Array.from(corpus.chunks(), ({ text }) => text),
      limit,
      { signal, onProgress: (done) => bar.tell(done, limit, {}) },
    );
    if (made.length > 0) appendFileSync(file, `${JSON.stringify({ subject, made })}\n`);
    return made;
  } finally {
    bar.stop();
  }
}

/** What earlier audits of the same subject wrote. A line cut short by a kill is skipped. */
function linesOf<Line extends object>(path: string, subject: string): Line[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((line) => {
      try {
        const { subject: of, ...rest } = JSON.parse(line) as { readonly subject: string };
        return of === subject ? [rest as Line] : [];
      } catch {
        return [];
      }
    });
}

function table(audits: readonly LinkAudit[]): string {
  const header = ["link", "questions", "divergence", "same first", "same answer", "computed", "first token"];
  const rows = audits.map(({ link, questions, divergence, same_first_token, same_answer, computed, first_token_ms }) => [
    link,
    `${questions}`,
    divergence.toFixed(3),
    ...[same_first_token, same_answer, computed].map((percent) => `${percent.toFixed(0)} %`),
    `${first_token_ms.toFixed(0)} ms`,
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  return [header, ...rows]
    .map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  "))
    .join("\n");
}
