import { Command } from "commander";
import pc from "picocolors";
import {
  type Generation,
  type GenerationStats,
  isBlockPiece,
  KvspliceError,
  type Link,
  linkText,
  type Model,
  type Plan,
  type Precision,
  withoutCache,
} from "../engine/index.js";
import { type Compiled, type Documents, naturalPlan } from "../pml/index.js";
import { divergence } from "./divergence.js";
import { withInterrupt } from "./interrupt.js";
import { linkOf } from "./link.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { type Encoded, encodeMissing } from "./pml-blocks.js";
import { withDocuments } from "./pml-documents.js";
import { openSchema, type ReadOptions } from "./pml-files.js";
import { positiveNumber } from "./positive-number.js";
import { precisionOption } from "./precision.js";
import { progressBar } from "./progress.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { stream } from "./stream.js";
import { counted } from "./words.js";

type Options = ReadOptions &
  StoreOptions &
  ModelOptions & {
    readonly store?: string;
    readonly corpus?: string;
    readonly compare?: boolean;
    readonly maxTokens?: number;
    readonly link?: Link;
    readonly precision?: Precision;
    readonly json?: boolean;
  };

export function pmlRunCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("run")))
    .description("answer a prompt from the KV states of its modules")
    .argument("<schema>", "the schema's file")
    .argument("<prompt>", "the prompt's file")
    .option("--store <dir>", "folder that `kvsplice pml precompute` filled; missing states are computed and stored there")
    .option("--corpus <dir>", "the corpus of the documents; it also stores the modules' states, unless --store is given")
    .option("--compare", "also answer the prompt as it would be written without modules, and report how far apart the answers are")
    .option(
      "--link <how>",
      "how modules and documents are linked: none, the share of their tokens to recompute, such as 0.15, or head=8 (docs/linking.md)",
      linkOf,
    )
    .option("--max-tokens <n>", "maximum tokens of the answer", positiveNumber)
    .option("--data <file>", "values for the prompt: a JSON object of modules and their arguments; - is standard input")
    .option("--budget <tokens>", "maximum tokens of the prompt; modules with a priority are dropped until it fits", positiveNumber)
    .option("--allow-outside", "allow src and imports from outside the schema's folder")
    .addOption(precisionOption())
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice pml run trip.pml packing.pml --store trip.kv
  $ kvsplice pml run trip.pml packing.pml --store trip.kv --compare
  $ kvsplice pml run trip.pml packing.pml --store trip.kv --link 0.15 --compare
  $ kvsplice pml run trip.pml packing.pml --json | jq .timing
  $ kvsplice pml run answer.pml crossings.pml --corpus bridges.kv`,
    )
    .action(run);
}

async function run(schemaFile: string, promptFile: string, options: Options): Promise<void> {
  const print = (text: string) => void (options.json || process.stdout.write(text));
  const choice = await chooseModel(options, options.corpus ?? options.store);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      const { corpus, store: folder = corpus } = options;
      const open = (documents: Documents | undefined) => openSchema(schemaFile, promptFile, model, documents, options);
      const { compiled } = await withDocuments({ model, ...(corpus !== undefined && { corpus }) }, open);
      if (!compiled)
        throw new KvspliceError(
          "bad_markup",
          `${promptFile} does not contain a valid prompt; kvsplice pml check ${schemaFile} ${promptFile} shows why.`,
        );
      const { plan, modules, scaffolds } = compiled;
      const linked = options.link && { link: options.link };
      const answered = (each: Plan) =>
        model.generate(each, { store, signal, ...linked, ...(options.maxTokens !== undefined && { maxNewTokens: options.maxTokens }) });
      const store = openConfiguredStore(folder, options);
      try {
        // Done before the answer, so that the time to its first token is that of a prompt whose modules are stored.
        const start = performance.now();
        const sources = plan.pieces.filter(isBlockPiece).map(({ block }) => block);
        const bar = progressBar("{bar} {percentage}% | {value}/{total} tokens of modules | {eta_formatted} left", options);
        const total = sources.reduce((sum, { tokens }) => sum + tokens.length, 0);
        const encoded = await encodeMissing(model, store, sources, {
          signal,
          onBlock: ({ tokens }) => bar.tell(tokens, total, {}),
        }).finally(bar.stop);
        const encode_ms = encoded.encoded > 0 ? performance.now() - start : 0;
        const cached = await answer(answered(plan), print);
        print(pc.dim(`\n\n${encodedLine(encoded, encode_ms, folder)}${timingLine(cached.stats)}\n`));

        const compared = options.compare
          ? await compare(model, compiled, cached, { answered, logits: (each) => model.logits(each, { store, signal, ...linked }), print })
          : undefined;
        if (options.json)
          process.stdout.write(
            `${JSON.stringify({ ...report(cached, encoded, encode_ms), ...(options.link && { link: linkText(options.link) }), modules, scaffolds, ...(compared && { compare: compared }) })}\n`,
          );
      } finally {
        await store.close();
      }
    }),
  );
}

type Comparing = {
  readonly answered: (plan: Plan) => Generation;
  readonly logits: (plan: Plan) => Promise<Float32Array>;
  readonly print: (text: string) => void;
};

/**
 * Compares the cached answer with the answer to the prompt as an author would have written it. If the plan has gaps, or
 * arguments placed after text that they precede, it is also compared with the same plan with nothing cached. `kl` is the
 * divergence of the first token from the natural prompt's, in nats.
 */
async function compare(
  { tokenizer }: Pick<Model, "tokenizer">,
  compiled: Compiled,
  cached: Answered,
  { answered, logits, print }: Comparing,
) {
  const natural = naturalPlan(compiled, { tokenizer });
  const uncached = withoutCache(compiled.plan);
  const differs = !samePositions(uncached, natural);
  const wanted = await logits(natural);
  const klOf = async (plan: Plan) => divergence(wanted, await logits(plan));
  print("\nThe natural prompt, nothing cached: ");
  const naturally = await answer(answered(natural), print);
  let same: (Answered & { readonly kl: number }) | undefined;
  if (differs) {
    print("\n\nThe same positions, nothing cached: ");
    same = { ...(await answer(answered(uncached), print)), kl: await klOf(uncached) };
  }
  const kl = await klOf(compiled.plan);
  const row = (name: string, { stats }: Answered, far?: number) =>
    `${name.padEnd(36)}${ms(stats.first_token_ms).padStart(10)}${(far === undefined ? "" : far.toFixed(4)).padStart(12)}`;
  print(
    pc.dim(
      [
        `\n\n${"".padEnd(36)}${"first token".padStart(10)}${"KL, nats".padStart(11)}`,
        row("cached", cached, kl),
        ...(same ? [row("the same positions, nothing cached", same, same.kl)] : []),
        row("natural", naturally),
        `\nFirst token after ${ms(naturally.stats.first_token_ms)} without the cache, after ${ms(cached.stats.first_token_ms)} with it: ${(naturally.stats.first_token_ms / cached.stats.first_token_ms).toFixed(1)} times faster.\n`,
      ].join("\n"),
    ),
  );
  return { kl, natural: report(naturally), ...(same && { uncached: { ...report(same), kl: same.kl } }) };
}

/** Whether two plans without blocks compute the same tokens at the same positions. */
function samePositions(a: Plan, b: Plan): boolean {
  const places = ({ pieces }: Plan) =>
    pieces.flatMap((piece) => ("tokens" in piece ? piece.tokens.map((token, i) => `${token}@${piece.at + i}`) : [])).join();
  return places(a) === places(b);
}

type Answered = { readonly answer: string; readonly stats: GenerationStats };

async function answer(generation: Generation, print: (text: string) => void): Promise<Answered> {
  return { answer: await stream(generation, print), stats: await generation.stats };
}

function ms(value: number): string {
  return `${value.toFixed(0)} ms`;
}

function encodedLine({ encoded, encoded_tokens }: Encoded, encode_ms: number, store: string | undefined): string {
  if (encoded === 0) return "";
  const kept = store === undefined ? "--store DIR would keep them" : `kept in ${store}`;
  return `First encoded ${counted(encoded_tokens, "token")} of modules in ${ms(encode_ms)} (${kept})\n`;
}

function timingLine({
  fetch_ms,
  splice_ms,
  first_token_ms,
  per_token_ms,
  cached_tokens,
  computed_tokens,
  recomputed_tokens,
}: GenerationStats): string {
  const share = ((100 * cached_tokens) / (cached_tokens + computed_tokens)).toFixed(0);
  return (
    `fetch ${ms(fetch_ms)}, splice ${ms(splice_ms)}, first token ${ms(first_token_ms)}, then ${ms(per_token_ms)} per token | ` +
    `${cached_tokens} tokens cached (${share} %), ${computed_tokens} computed${recomputed_tokens > 0 ? ` (${recomputed_tokens} of modules and documents recomputed)` : ""}`
  );
}

function report({ answer, stats }: Answered, encoded?: Encoded, encode_ms?: number) {
  const { fetch_ms, splice_ms, first_token_ms, per_token_ms, total_ms } = stats;
  return {
    answer,
    timing: { ...(encode_ms !== undefined && { encode_ms }), fetch_ms, splice_ms, first_token_ms, per_token_ms, total_ms },
    tokens: {
      cached: stats.cached_tokens,
      computed: stats.computed_tokens,
      ...(stats.recomputed_tokens > 0 && { recomputed: stats.recomputed_tokens }),
      generated: stats.generated_tokens,
      ...(encoded && { encoded: encoded.encoded_tokens }),
    },
  };
}
