import { Command } from "commander";
import pc from "picocolors";
import {
  isBlockPiece,
  KvspliceError,
  withoutCache,
  type Generation,
  type GenerationStats,
  type Model,
  type Plan,
  type Precision,
} from "../engine/index.js";
import { withInterrupt } from "./interrupt.js";
import { type Compiled, type Documents, naturalPlan } from "../pml/index.js";
import { divergence } from "./divergence.js";
import { withDocuments } from "./pml-documents.js";
import { openSchema, positiveNumber, type ReadOptions } from "./pml-files.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { encodeMissing, type Encoded } from "./pml-blocks.js";
import { precisionOption } from "./precision.js";
import { openStore, withStoreOptions, type StoreOptions } from "./store.js";
import { stream } from "./stream.js";

type Options = ReadOptions &
  StoreOptions &
  ModelOptions & {
    readonly store?: string;
    readonly corpus?: string;
    readonly compare?: boolean;
    readonly maxTokens?: number;
    readonly precision?: Precision;
    readonly json?: boolean;
  };

export function pmlRunCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("run")))
    .description("answer a prompt from the KV states of its modules")
    .argument("<schema>", "the schema's file")
    .argument("<prompt>", "the prompt's file")
    .option("--store <dir>", "folder that `kvsplice pml precompute` filled; what it lacks is computed and kept there")
    .option("--corpus <dir>", "the corpus that has the documents; it keeps the modules' states too, unless --store is given")
    .option("--compare", "answer the prompt as it would be written without modules as well, and tell how far apart the answers are")
    .option("--max-tokens <n>", "tokens that the answer may have", positiveNumber)
    .option("--data <file>", "values for the prompt: a JSON object of modules with their arguments; - is standard input")
    .option("--budget <tokens>", "tokens that the prompt may have; modules with a priority are left out until it fits", positiveNumber)
    .option("--allow-outside", "read src and imports from outside of the schema's folder")
    .addOption(precisionOption())
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice pml run trip.pml packing.pml --store trip.kv
  $ kvsplice pml run trip.pml packing.pml --store trip.kv --compare
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
        throw new KvspliceError("bad_markup", `${promptFile} has no prompt; kvsplice pml check ${schemaFile} ${promptFile} tells why.`);
      const { plan, modules, scaffolds } = compiled;
      const answered = (each: Plan) =>
        model.generate(each, { store, signal, ...(options.maxTokens !== undefined && { maxNewTokens: options.maxTokens }) });
      const store = openStore(folder, options);
      try {
        // Before the answer, so that its time to the first token is that of a prompt whose modules are stored.
        const start = performance.now();
        const encoded = await encodeMissing(
          model,
          store,
          plan.pieces.filter(isBlockPiece).map(({ block }) => block),
          { signal },
        );
        const encode_ms = encoded.encoded > 0 ? performance.now() - start : 0;
        const cached = await answer(answered(plan), print);
        print(pc.dim(`\n\n${encodedLine(encoded, encode_ms, folder)}${timingLine(cached.stats)}\n`));

        const compared = options.compare
          ? await compare(model, compiled, cached, { answered, logits: (each) => model.logits(each, { store, signal }), print })
          : undefined;
        if (options.json)
          process.stdout.write(
            `${JSON.stringify({ ...report(cached, encoded, encode_ms), modules, scaffolds, ...(compared && { compare: compared }) })}\n`,
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
 * The cached answer beside that of the prompt as an author would have written it, and, where it has gaps or arguments
 * behind text that they stand before, that of the same plan with nothing cached. `kl`: of the natural prompt's first
 * token to the other's, in nats.
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
        `\nFirst token after ${ms(naturally.stats.first_token_ms)} without the cache, after ${ms(cached.stats.first_token_ms)} with it: ${(naturally.stats.first_token_ms / cached.stats.first_token_ms).toFixed(1)} times sooner.\n`,
      ].join("\n"),
    ),
  );
  return { kl, natural: report(naturally), ...(same && { uncached: { ...report(same), kl: same.kl } }) };
}

/** Whether two plans of fresh tokens compute the same tokens at the same positions. */
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
  const kept = store === undefined ? "--store DIR keeps them" : `kept in ${store}`;
  return `${encoded_tokens} tokens of modules were encoded first, in ${ms(encode_ms)} (${kept})\n`;
}

function timingLine({ fetch_ms, splice_ms, first_token_ms, per_token_ms, cached_tokens, computed_tokens }: GenerationStats): string {
  const share = ((100 * cached_tokens) / (cached_tokens + computed_tokens)).toFixed(0);
  return (
    `fetch ${ms(fetch_ms)}, splice ${ms(splice_ms)}, first token ${ms(first_token_ms)}, then ${ms(per_token_ms)} a token | ` +
    `${cached_tokens} tokens cached (${share} %), ${computed_tokens} computed`
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
      generated: stats.generated_tokens,
      ...(encoded && { encoded: encoded.encoded_tokens }),
    },
  };
}
