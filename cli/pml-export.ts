import { Command, Option } from "commander";
import { KvspliceError } from "../engine/index.js";
import { messagesOf, toAnthropic, toOpenAi } from "../pml/index.js";
import { loadLanguage, type ModelOptions, modelOption } from "./model.js";
import { withDocuments } from "./pml-documents.js";
import { openSchema, positiveNumber, type ReadOptions } from "./pml-files.js";

type Options = ReadOptions & ModelOptions & { readonly to: "openai" | "anthropic"; readonly corpus?: string };

export function pmlExportCommand(): Command {
  return new Command("export")
    .description("print a prompt as messages of another API, laid out for its own cache")
    .argument("<schema>", "the schema's file")
    .argument("<prompt>", "the file of a prompt of it")
    .addOption(new Option("--to <api>", "whose messages").choices(["openai", "anthropic"]).makeOptionMandatory())
    .option("--corpus <dir>", "the corpus that has the documents")
    .option("--data <file>", "values for the prompt: a JSON object of modules with their arguments; - is standard input")
    .option("--budget <tokens>", "tokens that the prompt may have; modules with a priority are left out until it fits", positiveNumber)
    .option("--allow-outside", "read src and imports from outside of the schema's folder")
    .addOption(modelOption())
    .addHelpText(
      "after",
      `
openai: in each message, modules without arguments come first, as its cache takes what requests have in common from
the start. anthropic: cache_control stands behind modules, at most four times, from 1,024 tokens on.

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
      throw new KvspliceError("bad_markup", `${promptFile} has no prompt; kvsplice pml check ${schemaFile} ${promptFile} tells why.`);
    const messages = messagesOf(compiled);
    process.stdout.write(`${JSON.stringify(options.to === "openai" ? toOpenAi(messages) : toAnthropic(messages), undefined, 2)}\n`);
  });
}
