import { Command } from "commander";
import type { Language } from "../engine/index.js";
import { type Diagnostic, hasErrors, renderDiagnostics } from "../pml/index.js";
import { loadLanguage, type ModelOptions, modelOption } from "./model.js";
import { withDocuments } from "./pml-documents.js";
import { checkMarkup, checkMarkupUsage, inOrder, readMarkup, type ReadOptions } from "./pml-files.js";

type Options = ReadOptions & ModelOptions & { readonly corpus?: string; readonly json?: boolean };

export function pmlCheckCommand(): Command {
  return new Command("check")
    .description("tell all errors and warnings of schemas and prompts")
    .argument("<files...>", "schemas, and prompts of these schemas, in any order")
    .option("--corpus <dir>", "the corpus that has the documents, which are looked up there")
    .option("--allow-outside", "read src and imports from outside of a schema's folder")
    .addOption(modelOption())
    .option("--json", "print one JSON object, for editors")
    .addHelpText(
      "after",
      `
Ends with exit code 1 when there is an error. A prompt is checked against the
schema that it names, found among the files. Without --corpus, documents are
taken to exist.

Examples:
  $ kvsplice pml check trip.pml packing.pml
  $ kvsplice pml check answer.pml crossings.pml --corpus bridges.kv
  $ kvsplice pml check prompts/*.pml --json | jq '.diagnostics[].message'`,
    )
    .action(check);
}

async function check(paths: string[], options: Options): Promise<void> {
  const files = [...new Set(paths)].map((path) => readMarkup(path, options));
  let loaded: Promise<Language> | undefined;
  const language = () => (loaded ??= loadLanguage(options, options.corpus));
  const checked = await withDocuments(options.corpus === undefined ? {} : { corpus: options.corpus }, (documents) => checkMarkup(files, { language, documents: documents ?? (() => ({ tokens: [0] })) }));
  // A misspelt name leaves a module unused: one fault, told once.
  const usage = hasErrors(checked.diagnostics) ? [] : checkMarkupUsage(files);
  const diagnostics: readonly Diagnostic[] = inOrder([...checked.diagnostics, ...usage], files);
  const errors = diagnostics.filter(({ severity }) => severity === "error").length;
  const warnings = diagnostics.length - errors;
  if (options.json) process.stdout.write(`${JSON.stringify({ files: files.map(({ file, kind }) => ({ file, kind })), errors, warnings, diagnostics })}\n`);
  else {
    if (diagnostics.length > 0) process.stdout.write(`${renderDiagnostics(diagnostics)}\n\n`);
    process.stdout.write(`${count(files.length, "file")}: ${count(errors, "error")}, ${count(warnings, "warning")}.\n`);
  }
  if (errors > 0) process.exitCode = 1;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
