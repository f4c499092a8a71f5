import { text } from "node:stream/consumers";
import { Command, InvalidArgumentError } from "commander";
import pc from "picocolors";
import { KvspliceError, withoutCache, type Link, type StoreStats } from "../engine/index.js";
import type { AnswerStats, Source } from "../rag/index.js";
import { withCorpus } from "./corpus.js";
import { linkOf } from "./link.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { withStoreOptions, type StoreOptions } from "./store.js";
import { isSilence, stream } from "./stream.js";

type Options = StoreOptions & ModelOptions & {
  readonly store: string;
  readonly topK: number;
  readonly link?: Link;
  readonly linkTokens?: number;
  readonly promptLookup?: number;
  readonly compare?: boolean;
  readonly json?: boolean;
};

export function askCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("ask")))
    .description("answer a question over precomputed documents")
    .argument("<question>", "what to ask; - reads it from standard input")
    .requiredOption("--store <dir>", "folder that `kvsplice precompute` filled")
    .option("--top-k <n>", "documents to put into the prompt", wholeNumber, 10)
    .option("--link <how>", "how documents are joined: none, auto, or the share of their tokens that is computed again, such as 0.15 (docs/linking.md)", linkOf)
    .option("--link-tokens <n>", "trained tokens after each document that join it to the others, 0 to 4 (default: what measured best for the model)", wholeNumber)
    .option("--prompt-lookup <n>", "tokens to guess at a time from the documents: the answer is the same, and sooner where it repeats them; 2 is a good choice (default: 0)", wholeNumber)
    .option("--compare", "answer by full prefill as well")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice ask "Who kept the lighthouse?" --store handbook.kv
  $ kvsplice ask "When was it built?" --store handbook.kv --top-k 4 --compare
  $ kvsplice ask "Which of the two is older?" --store handbook.kv --link 0.3
  $ kvsplice ask "What does section 4 say?" --store handbook.kv --prompt-lookup 2
  $ kvsplice ask "When was it built?" --store handbook.kv --json | jq .timing`,
    )
    .action(ask);
}

function wholeNumber(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}

/**
 * ONNX Runtime 1.30 matches its process's command line with a recursive regular expression when it starts, and one of
 * some 30 KB ends it with a stack overflow. Longer questions come by standard input.
 */
const MAX_ARGUMENT_CHARACTERS = 16_000;

async function questionOf(argument: string): Promise<string> {
  if (argument === "-") return text(process.stdin);
  if (argument.length <= MAX_ARGUMENT_CHARACTERS) return argument;
  throw new KvspliceError("too_long", `The question has ${argument.length} characters; ask a shorter one, or give one of over ${MAX_ARGUMENT_CHARACTERS} on standard input: kvsplice ask - < question.txt`);
}

async function ask(argument: string, options: Options): Promise<void> {
  const question = await questionOf(argument);
  await withCorpus({ ...options, create: false }, async (corpus, model, signal, store) => {
    const print = (text: string) => void (options.json || process.stdout.write(text));
    await corpus.ready();
    const { topK, link, linkTokens, promptLookup } = options;
    const answer = await corpus.ask(question, { topK, link, linkTokens, promptLookup, signal });
    const spliced = await stream(answer, print);
    const [stats, reads] = await Promise.all([answer.stats, store.stats()]);
    for (const warning of stats.warnings) process.stderr.write(`${pc.yellow("warning:")} ${warning}\n`);
    if (isSilence(spliced)) process.stderr.write(`${pc.yellow("warning:")} the model had nothing to say to that; ask in other words.\n`);
    else print("\n\n");
    print(sourceLines(answer.sources) + "\n");
    print(pc.dim(timingLine(stats)) + "\n");

    let full: { answer: string; first_token_ms: number } | undefined;
    if (options.compare) {
      print("\nFull prefill: ");
      const generation = model.generate(withoutCache(corpus.plan(question, answer.sources, { linkTokens: 0 })), { signal });
      full = { answer: await stream(generation, print), first_token_ms: (await generation.stats).first_token_ms };
      const ratio = full.first_token_ms / stats.first_token_ms;
      print(pc.dim(`\nFirst token after ${full.first_token_ms.toFixed(0)} ms; spliced after ${stats.first_token_ms.toFixed(0)} ms, ${ratio.toFixed(1)} times sooner.`) + "\n");
    }
    if (options.json) process.stdout.write(`${JSON.stringify(report(spliced, answer.sources, stats, reads, full))}\n`);
  });
}

function sourceLines(sources: readonly Source[]): string {
  return sources.map(({ ref, title, page, score }, i) => `${pc.dim(`${i + 1}.`)} ${title} ${pc.dim(`${ref}${page === undefined ? "" : `, page ${page}`} (${score.toFixed(4)})`)}`).join("\n");
}

function timingLine(stats: AnswerStats): string {
  const ms = (value: number) => `${value.toFixed(0)} ms`;
  return (
    `retrieve ${ms(stats.retrieve_ms)}, fetch ${ms(stats.fetch_ms)}, splice ${ms(stats.splice_ms)}, ${stats.look_ms > 0 ? `look ${ms(stats.look_ms)}, ` : ""}first token ${ms(stats.first_token_ms)}, ` +
    `then ${ms(stats.per_token_ms)} a token | ${stats.cached_tokens} tokens cached, ${stats.computed_tokens} computed` +
    (stats.recomputed_tokens > 0 ? ` (${stats.recomputed_tokens} of them again)` : "") +
    (stats.drafted_tokens > 0 ? `, ${stats.accepted_tokens} of ${stats.drafted_tokens} guessed right` : "")
  );
}

function report(answer: string, sources: readonly Source[], stats: AnswerStats, reads: StoreStats, full: { answer: string; first_token_ms: number } | undefined) {
  const { retrieve_ms, fetch_ms, splice_ms, look_ms, first_token_ms, per_token_ms, total_ms } = stats;
  return {
    answer,
    sources: sources.map(({ ref, path, title, page, score, text }) => ({ ref, path, title, page, score, text })),
    timing: { retrieve_ms, fetch_ms, splice_ms, look_ms, first_token_ms, per_token_ms, total_ms },
    tokens: { cached: stats.cached_tokens, computed: stats.computed_tokens, recomputed: stats.recomputed_tokens, generated: stats.generated_tokens, drafted: stats.drafted_tokens, accepted: stats.accepted_tokens },
    store: { ...Object.fromEntries(reads.tiers.map(({ tier, hits }) => [tier, hits])), missing: reads.misses },
    ...(full && { full }),
  };
}
