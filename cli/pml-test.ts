import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Command } from "commander";
import pc from "picocolors";
import { z } from "zod";
import { isBlockPiece, KvspliceError, type Model, withoutCache } from "../engine/index.js";
import { compileMarkup, type Documents, hasErrors, readMarkup, renderDiagnostics } from "../pml/index.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { encodeMissing } from "./pml-blocks.js";
import { withDocuments } from "./pml-documents.js";
import { languageOf, type ReadOptions, STDIN } from "./pml-files.js";
import { progressBar } from "./progress.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = ReadOptions & StoreOptions & ModelOptions & { readonly store?: string; readonly corpus?: string; readonly json?: boolean };

/** A file of test cases. Paths are relative to it. */
const suite = z.strictObject({
  schema: z.string(),
  cases: z.array(
    z.strictObject({
      name: z.string().optional(),
      prompt: z.string(),
      /** Values for the prompt. */
      data: z.record(z.string(), z.unknown()).optional(),
      max_tokens: z.int().min(1).optional(),
      expect: z.strictObject({
        contains: z.union([z.string(), z.array(z.string())]).optional(),
        equals: z.string().optional(),
        /** The answer must be JSON that matches this JSON Schema. */
        json: z.record(z.string(), z.unknown()).optional(),
        /** The answer must be the same with nothing cached. */
        same: z.literal(true).optional(),
      }),
    }),
  ),
});

type Case = z.output<typeof suite>["cases"][number];
type Result = { readonly name: string; readonly answer: string; readonly failures: readonly string[] };

export function pmlTestCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("test")))
    .description("run test cases: answer prompts and compare the answers with what is expected")
    .argument("<files...>", "JSON files of test cases; - is standard input")
    .option("--store <dir>", "folder for the KV states of modules")
    .option("--corpus <dir>", "the corpus of the documents")
    .option("--allow-outside", "allow src and imports from outside a schema's folder")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
A file names a schema and lists cases. Each case has a prompt, values for it, and what is expected of the answer: that
it contains one or more texts, equals a text, matches a JSON Schema, or is the same with nothing cached.

  {"schema": "schema.pml",
   "cases": [{"prompt": "reset.pml", "data": {"order": {"product": "Nettle router"}},
              "expect": {"contains": "ten seconds", "same": true}}]}

The exit code is 1 if a case fails.

Examples:
  $ kvsplice pml test examples/pml/support/cases.json
  $ kvsplice pml test prompts/*.json --store prompts.kv --json | jq .failed`,
    )
    .action(test);
}

async function test(files: string[], options: Options): Promise<void> {
  const suites = files.map((file) => ({ file, ...readSuite(file) }));
  const choice = await chooseModel(options, options.corpus ?? options.store);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      const store = openConfiguredStore(options.store ?? options.corpus, options);
      const results: Result[] = [];
      // On a terminal, the results show the progress, so there is no bar.
      const bar = progressBar("{value}/{total} cases | {eta_formatted} left", { json: true });
      const total = suites.reduce((sum, { cases }) => sum + cases.length, 0);
      bar.tell(0, total, {});
      try {
        await withDocuments({ model, ...(options.corpus !== undefined && { corpus: options.corpus }) }, async (documents) => {
          for (const { file, schema, cases } of suites) {
            for (const each of cases) {
              const result = await answerCase(each, { file, schema, model, store, documents, options, signal });
              results.push(result);
              bar.tell(results.length, total, {});
              if (!options.json) process.stdout.write(drawResult(result));
            }
          }
        });
      } finally {
        bar.stop();
        await store.close();
      }
      const failed = results.filter(({ failures }) => failures.length > 0).length;
      if (options.json) process.stdout.write(`${JSON.stringify({ cases: results.length, failed, results })}\n`);
      else process.stdout.write(`\n${counted(results.length, "case")}, ${failed} failed.\n`);
      if (failed > 0) process.exitCode = 1;
    }),
  );
}

function readSuite(file: string): z.output<typeof suite> {
  try {
    return suite.parse(JSON.parse(readFileSync(file === STDIN ? 0 : file, "utf8")));
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
    throw new KvspliceError("bad_file", `${file} is not a file of test cases: ${reason}`, { cause });
  }
}

type Setting = {
  readonly file: string;
  readonly schema: string;
  readonly model: Model;
  readonly store: ReturnType<typeof openConfiguredStore>;
  readonly documents: Documents | undefined;
  readonly options: Options;
  readonly signal: AbortSignal;
};

async function answerCase(
  { name, prompt, data, max_tokens, expect }: Case,
  { file, schema, model, store, documents, options, signal }: Setting,
): Promise<Result> {
  const paths = [schema, prompt].map((path) => resolve(dirname(file), path));
  const called = `${file}: ${name ?? prompt}`;
  const { files, diagnostics } = compileMarkup(
    paths.map((path) => readMarkup(path, options)),
    { language: languageOf(model), ...(documents && { documents }), ...(data && { data }) },
  );
  const compiled = files[1]?.compiled;
  if (!compiled)
    return {
      name: called,
      answer: "",
      failures: [hasErrors(diagnostics) ? renderDiagnostics(diagnostics) : `${prompt} does not contain a prompt`],
    };
  await encodeMissing(
    model,
    store,
    compiled.plan.pieces.filter(isBlockPiece).map(({ block }) => block),
    { signal },
  );
  const answerOf = async (plan: typeof compiled.plan) => {
    let text = "";
    for await (const token of model.generate(plan, { store, signal, ...(max_tokens !== undefined && { maxNewTokens: max_tokens }) }))
      text += token.text;
    return text;
  };
  const answer = await answerOf(compiled.plan);
  const uncached = expect.same ? await answerOf(withoutCache(compiled.plan)) : undefined;
  return { name: called, answer, failures: failuresOf(answer, uncached, expect) };
}

function failuresOf(answer: string, uncached: string | undefined, { contains = [], equals, json }: Case["expect"]): string[] {
  const failures = [contains]
    .flat()
    .filter((text) => !answer.includes(text))
    .map((text) => `does not contain ${JSON.stringify(text)}`);
  if (equals !== undefined && answer.trim() !== equals.trim()) failures.push(`is not ${JSON.stringify(equals)}`);
  if (json) failures.push(...jsonFailures(answer, json));
  if (uncached !== undefined && uncached !== answer) failures.push(`is ${JSON.stringify(uncached)} with nothing cached`);
  return failures;
}

function jsonFailures(answer: string, schema: Readonly<Record<string, unknown>>): string[] {
  let value: unknown;
  try {
    value = JSON.parse(answer);
  } catch {
    return ["is not JSON"];
  }
  const found = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]).safeParse(value);
  return found.success ? [] : found.error.issues.map(({ path, message }) => `${path.length > 0 ? `${path.join(".")}: ` : ""}${message}`);
}

function drawResult({ name, answer, failures }: Result): string {
  if (failures.length === 0) return `${pc.green("passed")} ${name}\n`;
  return `${pc.red("failed")} ${name}\n  the answer ${JSON.stringify(answer)}\n${failures.map((failure) => `  ${failure}\n`).join("")}`;
}
