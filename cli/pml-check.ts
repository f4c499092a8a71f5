import { Command } from "commander";
import { checkMarkupUsage, compileMarkup, type Diagnostic, hasErrors, renderDiagnostics } from "../pml/index.js";
import { loadLanguage, type ModelOptions, modelOption } from "./model.js";
import { withDocuments } from "./pml-documents.js";
import { languageOf, type ReadOptions, readData, readFile } from "./pml-files.js";

type Options = ReadOptions & ModelOptions & { readonly corpus?: string; readonly usage?: boolean; readonly json?: boolean };

export function pmlCheckCommand(): Command {
  return new Command("check")
    .description("report all errors and warnings in schemas and prompts")
    .argument("<files...>", "schemas and their prompts, in any order; - is standard input")
    .option("--corpus <dir>", "the corpus to look documents up in")
    .option("--data <file>", "values for the prompts: a JSON object of modules and their arguments; - is standard input")
    .option("--usage", "warn about modules and parameters that none of the prompts uses")
    .option("--allow-outside", "allow src and imports from outside a schema's folder")
    .addOption(modelOption())
    .option("--json", "print one JSON object, for editors")
    .addHelpText(
      "after",
      `
The exit code is 1 if there is an error. Each prompt is checked against the schema
that it names, which must be among the files. Without --corpus, documents are
assumed to exist.

Examples:
  $ kvsplice pml check trip.pml packing.pml
  $ kvsplice pml check trip.pml prompts/*.pml --usage
  $ kvsplice pml check answer.pml crossings.pml --corpus bridges.kv
  $ kvsplice pml check shop.pml order.pml --data values.json
  $ kvsplice pml check prompts/*.pml --json | jq '.diagnostics[].message'`,
    )
    .action(check);
}

async function check(paths: string[], options: Options): Promise<void> {
  const files = [...new Set(paths)].map((path) => readFile(path, options));
  const data = options.data === undefined ? undefined : readData(options.data);
  const counts = files.some(({ kind, diagnostics }) => kind === "schema" && !hasErrors(diagnostics));
  const language = counts ? languageOf(await loadLanguage(options, options.corpus)) : undefined;
  const { diagnostics: found } = await withDocuments(options.corpus === undefined ? {} : { corpus: options.corpus }, async (documents) =>
    compileMarkup(files, {
      ...(language && { language }),
      documents: documents ?? (() => ({ tokens: [0] })),
      ...(data && { data }),
    }),
  );
  // A misspelt name also leaves a module unused. That is one mistake, reported once.
  const unused = hasErrors(found) ? [] : checkMarkupUsage(files, data);
  const diagnostics: readonly Diagnostic[] = options.usage || options.json ? [...found, ...unused] : found;
  const errors = diagnostics.filter(({ severity }) => severity === "error").length;
  const warnings = diagnostics.length - errors;
  if (options.json)
    process.stdout.write(`${JSON.stringify({ files: files.map(({ file, kind }) => ({ file, kind })), errors, warnings, diagnostics })}\n`);
  else {
    if (diagnostics.length > 0) process.stdout.write(`${renderDiagnostics(diagnostics)}\n\n`);
    const summary = options.usage || unused.length === 0 ? "" : ` ${usageLine(unused)} not used by any prompt; --usage lists them.`;
    process.stdout.write(`${count(files.length, "file")}: ${count(errors, "error")}, ${count(warnings, "warning")}.${summary}\n`);
  }
  if (errors > 0) process.exitCode = 1;
}

function usageLine(unused: readonly Diagnostic[]): string {
  const modules = unused.filter(({ code }) => code === "unused-module").length;
  const parameters = unused.length - modules;
  return [...(modules > 0 ? [count(modules, "module")] : []), ...(parameters > 0 ? [count(parameters, "parameter")] : [])].join(" and ");
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
