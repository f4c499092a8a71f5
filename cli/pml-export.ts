import { Command, Option } from "commander";
import { KvspliceError } from "../engine/index.js";
import { messagesOf, toAnthropic, toOpenAi } from "../pml/index.js";
import { loadLanguage, type ModelOptions, modelOption } from "./model.js";
import { withDocuments } from "./pml-documents.js";
import { openSchema, type ReadOptions } from "./pml-files.js";
import { positiveNumber } from "./positive-number.js";

type Options = ReadOptions & ModelOptions & { readonly to: "openai" | "anthropic"; readonly corpus?: string };

export function pmlExportCommand(): Command {
  return new Command("export")
    .description("print a prompt as messages for another API, arranged for that API's cache")
    .argument("<schema>", "the schema's file")
    .argument("<prompt>", "the prompt's file")
    .addOption(new Option("--to <api>", "the API").choices(["openai", "anthropic"]).makeOptionMandatory())
    .option("--corpus <dir>", "the corpus of the documents")
    .option("--data <file>", "values for the prompt: a JSON object of modules and their arguments; - is standard input")
    .option("--budget <tokens>", "maximum tokens of the prompt; modules with a priority are dropped until it fits", positiveNumber)
    .option("--allow-outside", "allow src and imports from outside the schema's folder")
    .addOption(modelOption())
    .addHelpText(
      "after",
      `
openai: in each message, modules without arguments come first, because its cache reuses the common start of requests.
anthropic: cache_control follows modules, at most four times, from 1,024 tokens on.

Examples:
  $ kvsplice pml export trip.pml packing.pml --to openai | jq .messages
  $ kvsplice pml export trip.pml packing.pml --to anthropic`,
    )
    .action(run);
}

async function run(schemaFile: string, promptFile: string, options: Options): Promise<void> {
  const language = await loadLanguage(options, options.corpus);
  await withDocuments(options.corpus === undefined ? {} : { corpus: options.corpus }, async (documents) => {
    const { compiled } = await openSchema(schemaFile, promptFile, language, documents, options);
    if (!compiled)
      throw new KvspliceError(
        "bad_markup",
        `${promptFile} does not contain a valid prompt; kvsplice pml check ${schemaFile} ${promptFile} shows why.`,
      );
    const messages = messagesOf(compiled);
    process.stdout.write(`${JSON.stringify(options.to === "openai" ? toOpenAi(messages) : toAnthropic(messages), undefined, 2)}\n`);
  });
}
