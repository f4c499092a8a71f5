import { createHash } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { KvspliceError, parseLink, type Link } from "../engine/index.js";
import { audit, type Finding, FULL, type LinkAudit, questionsFrom, recommended, summarise } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { linkOf } from "./link.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { durationText, progressBar } from "./progress.js";
import { withStoreOptions, type StoreOptions } from "./store.js";

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

/** What an audit found so far, a line each, in the store's folder: it goes on from there. */
const FINDINGS = "audit.jsonl";

const LINKS = "none,0.05,0.15,0.3";

export function auditCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("audit")))
    .description("measure how far answers over spliced documents are from full attention's, without labels, and choose how documents are linked")
    .requiredOption("--store <dir>", "folder that `kvsplice precompute` filled")
    .option("--questions <file>", "questions, one a line (default: the model makes some from the corpus's own documents)")
    .option("--limit <n>", "questions at most", wholeNumber, 20)
    .option("--link <list>", "ways of linking to compare", linkList, linkList(LINKS))
    .option("--tolerance <nats>", "mean divergence from full attention's answers, from 0 to 1, up to which a way is recommended", share, 0.35)
    .option("--top-k <n>", "documents to put into each prompt", wholeNumber, 10)
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Each question is answered by full attention and in each way. The divergence is how
far a way's distribution is from that of full attention's own answer, at most 1 a
question. The cheapest way within the tolerance is written into the corpus, and
\`--link auto\`, the default of the other commands, takes it. End it at any time:
the next audit goes on.

Examples:
  $ kvsplice audit --store handbook.kv
  $ kvsplice audit --store handbook.kv --questions asked.txt --limit 50 --link none,0.1,0.15,0.15+last,0.3
  $ kvsplice audit --store handbook.kv --tolerance 0.2 --json | jq .recommended`,
    )
    .action(run);
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("Give a whole number from 1.");
  return Number(text);
}

function share(text: string): number {
  const number = Number(text);
  if (!(number >= 0 && number <= 1)) throw new InvalidArgumentError("Give a number from 0 to 1.");
  return number;
}

function linkList(text: string): Link[] {
  return text.split(",").map((name) => {
    const link = linkOf(name);
    if (!link) throw new InvalidArgumentError("An audit is what auto goes by: name the ways that it compares.");
    return link;
  });
}

async function run(options: Options): Promise<void> {
  const { questions: path, limit, link: links, tolerance, topK, json } = options;
  const given = path === undefined ? undefined : questionsOf(path, limit);
  await withCorpus({ ...options, create: false }, async (corpus, model, signal, store) => {
    await corpus.ready();
    const tell = (line: string) => void process.stderr.write(`${line}\n`);
    if (!given) tell(`The model makes ${limit} questions from the corpus's documents.`);
    const questions = given ?? (await questionsFrom(model, Array.from(corpus.chunks(), ({ text }) => text), limit, signal));
    if (questions.length === 0) throw new KvspliceError("bad_argument", "The model made no questions. Give some with --questions, one a line.");
    tell(`${questions.length} ${questions.length === 1 ? "question" : "questions"} in ${links.length + 1} ways; how long it takes is known after the first.`);

    // What was found holds for one model, one state of the corpus and one count of documents.
    const subject = createHash("sha256").update(`${model.id} ${corpus.generation} ${topK}`).digest("hex").slice(0, 16);
    const file = join(options.store, FINDINGS);
    const known = findingsIn(file, subject);
    const bar = progressBar("{bar} {percentage}% | {value}/{total} | {eta_formatted} left", { json });
    let done = 0;
    const planOf = async (question: string) => corpus.plan(question, await corpus.retrieve(question, { topK, signal }));
    const start = performance.now();
    try {
      const findings = await audit(model, questions, planOf, {
        links,
        known,
        signal,
        store,
        onFinding(finding) {
          appendFileSync(file, `${JSON.stringify({ subject, ...finding })}\n`);
          bar.tell(++done, questions.length * (links.length + 1) - known.length, {});
          if (done === links.length + 1) tell(`About ${durationText(((performance.now() - start) / 1000) * (questions.length - 1))} for the others.`);
        },
      });
      bar.stop();
      const audits = summarise(findings, [FULL, ...new Set(findings.map(({ link }) => link).filter((link) => link !== FULL))]);
      const best = recommended(audits, tolerance);
      if (best) corpus.link = parseLink(best.link);
      if (json) process.stdout.write(`${JSON.stringify({ model: model.name, questions: questions.length, tolerance, recommended: best?.link ?? null, audits })}\n`);
      else process.stdout.write(`${table(audits)}\n\n${best ? `Recommended: --link ${best.link}. The corpus has it from now on, as auto.` : `No way is within ${tolerance} of full attention. Compute more again (--link 0.5), allow more (--tolerance), or train an adapter (docs/linking.md).`}\n`);
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
    throw new KvspliceError("bad_file", `${path} cannot be read (${(cause as NodeJS.ErrnoException).code}). Give a file of questions, one a line.`, { cause });
  }
  const questions = [...new Set(text.split("\n").map((line) => line.trim()).filter((line) => line !== ""))].slice(0, limit);
  if (questions.length === 0) throw new KvspliceError("bad_file", `${path} has no questions. Write one a line.`);
  return questions;
}

/** What was found before of the same subject; a line that was cut short by a kill is passed over. */
function findingsIn(path: string, subject: string): Finding[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8").split("\n").flatMap((line) => {
    try {
      const { subject: of, ...finding } = JSON.parse(line) as Finding & { readonly subject: string };
      return of === subject ? [finding] : [];
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
  return [header, ...rows].map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ")).join("\n");
}
