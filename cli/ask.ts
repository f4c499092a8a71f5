import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { Command, InvalidArgumentError } from "commander";
import pc from "picocolors";
import { KvspliceError, type Link, type StoreStats, withoutCache } from "../engine/index.js";
import type { Schema } from "../grammar/index.js";
import { type AnswerStats, parseWhere, type Source } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { type EmbedderOptions, type FloorOptions, withEmbedderOption, withFloorOptions } from "./embedder.js";
import { linkOf } from "./link.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { isSilence, stream } from "./stream.js";

type Options = StoreOptions &
  ModelOptions &
  EmbedderOptions &
  FloorOptions & {
    readonly store: string;
    readonly topK: number;
    readonly where: readonly string[];
    readonly link?: Link;
    readonly linkTokens?: number;
    readonly promptLookup?: number;
    readonly jsonSchema?: string;
    readonly compare?: boolean;
    readonly json?: boolean;
  };

export function askCommand(): Command {
  return withFloorOptions(withEmbedderOption(withModelOptions(withStoreOptions(new Command("ask")))))
    .description("answer a question over precomputed documents")
    .argument("<question>", "the question; - reads it from standard input")
    .requiredOption("--store <dir>", "folder that `kvsplice precompute` filled")
    .option("--top-k <n>", "documents to put into the prompt", wholeNumber, 10)
    .option(
      "--where <condition...>",
      "search only matching documents: KEY=VALUE, KEY=ONE,OTHER, KEY!=VALUE, KEY>=VALUE or KEY<=VALUE; KEY is path, title, page, date, or one of the documents' own fields (docs/finding.md)",
      [],
    )
    .option(
      "--link <how>",
      "how documents are linked: none, auto, or the share of their tokens to recompute, such as 0.15 (docs/linking.md)",
      linkOf,
    )
    .option(
      "--link-tokens <n>",
      "trained tokens after each document that link it to the others, 0 to 4 (default: what measured best for the model)",
      wholeNumber,
    )
    .option(
      "--prompt-lookup <n>",
      "tokens to guess at a time from the documents: the answer stays the same, but comes faster when it quotes them; 2 is a good choice (default: 0)",
      wholeNumber,
    )
    .option("--json-schema <file>", "answer with JSON that matches this schema (docs/structured.md)")
    .option("--compare", "also answer with full prefill, for comparison")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice ask "Who kept the lighthouse?" --store handbook.kv
  $ kvsplice ask "When was it built?" --store handbook.kv --top-k 4 --compare
  $ kvsplice ask "What changed?" --store handbook.kv --where path=releases "date>=2024-01-01" team=ops
  $ kvsplice ask "Which of the two is older?" --store handbook.kv --link 0.3
  $ kvsplice ask "What does section 4 say?" --store handbook.kv --prompt-lookup 2
  $ kvsplice ask "Who built it, and when?" --store handbook.kv --json-schema builder.json
  $ kvsplice ask "When was it built?" --store handbook.kv --json | jq .timing`,
    )
    .action(ask);
}

function wholeNumber(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}

/**
 * When it starts, ONNX Runtime 1.30 matches the process's command line against a recursive regular expression. A command
 * line of about 30 KB crashes it with a stack overflow, so longer questions must come through standard input.
 */
const MAX_ARGUMENT_CHARACTERS = 16_000;

async function questionOf(argument: string): Promise<string> {
  if (argument === "-") return text(process.stdin);
  if (argument.length <= MAX_ARGUMENT_CHARACTERS) return argument;
  throw new KvspliceError(
    "too_long",
    `The question has ${argument.length} characters. Shorten it, or pass questions of more than ${MAX_ARGUMENT_CHARACTERS} characters on standard input: kvsplice ask - < question.txt`,
  );
}

async function readSchema(path: string): Promise<Schema> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Schema;
  } catch (cause) {
    throw new KvspliceError("bad_file", `${path} cannot be read as a JSON Schema: ${(cause as Error).message}`, { cause });
  }
}

async function ask(argument: string, options: Options): Promise<void> {
  const question = await questionOf(argument);
  const schema = options.jsonSchema === undefined ? undefined : await readSchema(options.jsonSchema);
  await withCorpus({ ...options, create: false }, async (corpus, model, signal, store) => {
    const print = (text: string) => void (options.json || process.stdout.write(text));
    await corpus.ready();
    const { topK, floor, link, linkTokens, promptLookup } = options;
    const answer = await corpus.ask(question, {
      topK,
      floor,
      where: parseWhere(options.where),
      link,
      linkTokens,
      promptLookup,
      schema,
      signal,
    });
    if (!answer.found) return tellNothingFound(answer.best_score, options);
    const spliced = await stream(answer, print);
    const [stats, reads] = await Promise.all([answer.stats, store.stats()]);
    for (const warning of stats.warnings) process.stderr.write(`${pc.yellow("warning:")} ${warning}\n`);
    if (isSilence(spliced)) process.stderr.write(`${pc.yellow("warning:")} the model gave no answer; rephrase the question.\n`);
    else print("\n\n");
    print(`${sourceLines(answer.sources)}\n`);
    print(`${pc.dim(timingLine(stats))}\n`);

    let full: { answer: string; first_token_ms: number } | undefined;
    if (options.compare) {
      print("\nFull prefill: ");
      const generation = model.generate(withoutCache(corpus.plan(question, answer.sources, { linkTokens: 0 })), { signal });
      full = { answer: await stream(generation, print), first_token_ms: (await generation.stats).first_token_ms };
      const ratio = full.first_token_ms / stats.first_token_ms;
      print(
        `${pc.dim(`\nFirst token after ${full.first_token_ms.toFixed(0)} ms; spliced after ${stats.first_token_ms.toFixed(0)} ms, ${ratio.toFixed(1)} times faster.`)}\n`,
      );
    }
    if (options.json) process.stdout.write(`${JSON.stringify(report(spliced, answer.sources, stats, reads, full))}\n`);
  });
}

function tellNothingFound(best_score: number, { json, where }: Options): void {
  if (json) process.stdout.write(`${JSON.stringify({ answer: null, found: false, best_score, sources: [] })}\n`);
  else if (best_score === 0 && where.length > 0) process.stdout.write("No document matches these conditions.\n");
  else
    process.stdout.write(
      `Nothing in the documents answers that (the best match scores ${best_score.toFixed(2)}). Rephrase the question, or use the best matches anyway with --no-floor.\n`,
    );
}

function sourceLines(sources: readonly Source[]): string {
  return sources
    .map(
      ({ ref, title, page, score }, i) =>
        `${pc.dim(`${i + 1}.`)} ${title} ${pc.dim(`${ref}${page === undefined ? "" : `, page ${page}`} (${score.toFixed(2)})`)}`,
    )
    .join("\n");
}

function timingLine(stats: AnswerStats): string {
  const ms = (value: number) => `${value.toFixed(0)} ms`;
  return (
    `retrieve ${ms(stats.retrieve_ms)}, fetch ${ms(stats.fetch_ms)}, splice ${ms(stats.splice_ms)}, ${stats.look_ms > 0 ? `look ${ms(stats.look_ms)}, ` : ""}first token ${ms(stats.first_token_ms)}, ` +
    `then ${ms(stats.per_token_ms)} per token | ${stats.cached_tokens} tokens cached, ${stats.encoded_tokens > 0 ? `${stats.encoded_tokens} encoded, ` : ""}${stats.computed_tokens} computed` +
    (stats.recomputed_tokens > 0 ? ` (${stats.recomputed_tokens} of them recomputed)` : "") +
    (stats.drafted_tokens > 0 ? `, ${stats.accepted_tokens} of ${stats.drafted_tokens} guessed correctly` : "")
  );
}

function report(
  answer: string,
  sources: readonly Source[],
  stats: AnswerStats,
  reads: StoreStats,
  full: { answer: string; first_token_ms: number } | undefined,
) {
  const { retrieve_ms, fetch_ms, splice_ms, look_ms, first_token_ms, per_token_ms, total_ms } = stats;
  return {
    answer,
    found: true,
    sources: sources.map(({ ref, path, title, page, date, fields, score, text }) => ({
      ref,
      path,
      title,
      page,
      date,
      fields,
      score,
      text,
    })),
    timing: { retrieve_ms, fetch_ms, splice_ms, look_ms, first_token_ms, per_token_ms, total_ms },
    tokens: {
      cached: stats.cached_tokens,
      encoded: stats.encoded_tokens,
      computed: stats.computed_tokens,
      recomputed: stats.recomputed_tokens,
      generated: stats.generated_tokens,
      drafted: stats.drafted_tokens,
      accepted: stats.accepted_tokens,
    },
    store: { ...Object.fromEntries(reads.tiers.map(({ tier, hits }) => [tier, hits])), missing: reads.misses },
    ...(full && { full }),
  };
}
