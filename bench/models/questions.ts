/**
 * The 40 questions of examples/questions.jsonl over examples/corpus, answered by model files as by llama.cpp: by full prefill
 * of the same token ids, greedily, up to 32 tokens. If the two choose different tokens, ours continues after llama.cpp's. Then
 * some of the questions through the commands: `kvsplice ask`, `serve` and `pml run`.
 *
 *     npx tsx models/questions.ts FILE.gguf...   in bench/, after `npm run build` of the project
 *         --questions N     only the first N questions
 *         --minutes N       no further question after this many minutes
 *         --documents N     documents in each prompt (10): parts of the article with the answer, and beginnings of others
 *         --commands N      N questions through the commands (5), which first precompute the corpus with the model
 *         --corpus FOLDER   another corpus for the commands
 *         --json            one JSON object per model
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { loadModel, type Model, type Plan, tokensOf, withoutCache } from "../../engine/index.js";
import { type Chunk, loadFile, openCorpus, splitDocument } from "../../rag/index.js";
import { askCommands, type CommandAnswers } from "./commands.js";
import { LlamaCpp, llamaCppRelease } from "./llama-cpp.js";

export type Question = { readonly question: string; readonly answers: readonly string[]; readonly source: string };

/** Where the two programs choose different tokens after the same tokens of llama.cpp: how much each prefers its own. */
type Parting = { readonly own: string; readonly peer: string; readonly own_gap: number; readonly peer_gap: number };

type Compared = {
  readonly question: string;
  readonly prompt_tokens: number;
  readonly tokens: number;
  readonly partings: readonly Parting[];
  readonly noise: readonly number[];
};

const ANSWER_TOKENS = 32;
/** llama.cpp's positions: ten documents, a question and an answer. */
const CONTEXT = 4096;
/** How many of llama.cpp's logits are transferred: any other choice of token is among them. */
const TOLD = 16;
const LINKLESS = { linkTokens: 0 };

const examples = join(import.meta.dirname, "../../examples");
const { values: options, positionals: paths } = parseArgs({
  allowPositionals: true,
  options: {
    questions: { type: "string", default: "40" },
    minutes: { type: "string", default: "Infinity" },
    documents: { type: "string", default: "10" },
    commands: { type: "string", default: "5" },
    corpus: { type: "string", default: join(examples, "corpus") },
    json: { type: "boolean", default: false },
  },
});
const questions = readFileSync(join(examples, "questions.jsonl"), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Question)
  .slice(0, Number(options.questions));

process.stderr.write(`Compared with llama.cpp ${await llamaCppRelease()}.\n`);
const folder = mkdtempSync(join(tmpdir(), "kvsplice-questions-"));
try {
  for (const [i, path] of paths.entries()) {
    const own = join(folder, String(i));
    report(
      basename(path),
      await compare(path, own),
      await askCommands(path, own, options.corpus, questions.slice(0, Number(options.commands))),
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(0);

/** The chunks of each article, by file name. */
async function articles({ tokenizer, card }: Model): Promise<ReadonlyMap<string, readonly Chunk[]>> {
  const chunks = new Map<string, Chunk[]>();
  for (const name of readdirSync(join(examples, "corpus")).sort()) {
    const path = join(examples, "corpus", name);
    const { documents } = await loadFile(path, readFileSync(path));
    const split = await Promise.all(documents.map((document) => splitDocument(document, { tokenizer, card })));
    chunks.set(name, split.flat());
  }
  return chunks;
}

async function compare(path: string, folder: string): Promise<readonly Compared[]> {
  const model = await loadModel({ path });
  const corpus = await openCorpus(folder, { model, create: true });
  const peer = await LlamaCpp.open(path, Math.min(CONTEXT, model.contextLength));
  const chunks = await articles(model);
  const names = [...chunks.keys()];
  const compared: Compared[] = [];
  const end = performance.now() + 60_000 * Number(options.minutes);
  for (const { question, source } of questions) {
    if (performance.now() > end) break;
    const at = names.indexOf(source);
    const others = names.map((_, i) => chunks.get(names[(at + 1 + i) % names.length]!)![0]!).slice(0, -1);
    // A plan puts the first of them last, next to the question.
    const documents = [...chunks.get(source)!, ...others].slice(0, Number(options.documents));
    compared.push(await compareOne(question, withoutCache(corpus.plan(question, documents, LINKLESS)), model, peer));
    process.stderr.write(
      `${compared.length} of ${questions.length}: ${compared.at(-1)!.prompt_tokens} tokens, answered with ${compared.at(-1)!.tokens}, other ones ${JSON.stringify(compared.at(-1)!.partings)}\n`,
    );
  }
  await peer[Symbol.asyncDispose]();
  await corpus.close();
  await model.close();
  return compared;
}

async function compareOne(question: string, plan: Plan, model: Model, peer: LlamaCpp): Promise<Compared> {
  const prompt = tokensOf(plan);
  const answer: Choice[] = [];
  for (let logits = await peer.highest(prompt, TOLD); ; logits = await peer.highestAfter([answer.at(-1)!.token], TOLD)) {
    const [token, second] = logits.keys();
    answer.push({ token: token!, second: second!, logits });
    if (answer.length === ANSWER_TOKENS || model.endTokens.has(answer.at(-1)!.token)) break;
  }
  const text = (token: number) => model.tokenizer.decode([token]) || `<${token}>`;
  const partings: Parting[] = [];
  const noise: number[] = [];
  const hold = (own: Float32Array, { token, second, logits }: Choice): boolean => {
    const chosen = highest(own);
    if (chosen !== token) {
      const peer_gap = logits.get(token)! - (logits.get(chosen) ?? -Infinity);
      partings.push({ own: text(chosen), peer: text(token), own_gap: own[chosen]! - own[token]!, peer_gap });
      return false;
    }
    noise.push(own[token]! - own[second]! - (logits.get(token)! - logits.get(second)!));
    return true;
  };
  // Follows our answer until it differs.
  let same = 0;
  const answering = new AbortController();
  const onLogits = (logits: Float32Array) => {
    if (!answering.signal.aborted && same < answer.length && hold(logits, answer[same]!)) same++;
    else answering.abort();
  };
  const generation = model.generate(plan, { temperature: 0, maxNewTokens: ANSWER_TOKENS, onLogits, signal: answering.signal });
  await generation.text.catch((error: unknown) => answering.signal.aborted || Promise.reject(error as Error));
  // Then continues after llama.cpp's tokens.
  if (same < answer.length) {
    const { logits: scored } = await model.score(
      plan,
      answer.map(({ token }) => token),
    );
    for (let i = same + 1; i < answer.length; i++) hold(scored[i]!, answer[i]!);
  }
  return { question, prompt_tokens: prompt.length, tokens: answer.length, partings, noise };
}

/** llama.cpp's token, its second choice, and its highest logits. */
type Choice = { readonly token: number; readonly second: number; readonly logits: ReadonlyMap<number, number> };

/** The token with the highest logit. */
function highest(logits: Float32Array): number {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (logits[token]! > logits[best]!) best = token;
  return best;
}

function report(model: string, compared: readonly Compared[], commands: CommandAnswers): void {
  const noise = compared
    .flatMap((each) => each.noise)
    .map(Math.abs)
    .sort((a, b) => a - b);
  const rms = Math.sqrt(noise.reduce((sum, value) => sum + value ** 2, 0) / noise.length);
  const partings = compared.flatMap((each) => each.partings);
  const gaps = partings.map(({ own_gap, peer_gap }) => own_gap + peer_gap);
  const summary = {
    model,
    questions: compared.length,
    parted: compared.filter((each) => each.partings.length > 0).length,
    tokens: compared.reduce((sum, { tokens }) => sum + tokens, 0),
    "other tokens": partings.length,
    "largest gap": Math.max(0, ...gaps),
    "noise, root mean square": rms,
    "noise, largest": noise.at(-1)!,
    ...commands,
  };
  if (options.json) return console.log(JSON.stringify({ ...summary, compared }));
  console.table([
    Object.fromEntries(
      Object.entries(summary).map(([key, value]) => [
        key,
        typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : value,
      ]),
    ),
  ]);
  for (const { question, partings } of compared) for (const parting of partings) console.log(question, JSON.stringify(parting));
}
