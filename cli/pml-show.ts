import { Command } from "commander";
import { blocksOf, type Compiled, type Description, describe, type Layout } from "../pml/index.js";
import { loadLanguage, type ModelOptions, modelOption } from "./model.js";
import { withDocuments } from "./pml-documents.js";
import { openSchema, type ReadOptions } from "./pml-files.js";
import { renderTree } from "./pml-tree.js";
import { counted } from "./words.js";

type Options = ReadOptions & ModelOptions & { readonly all?: boolean; readonly corpus?: string; readonly json?: boolean };

export function pmlShowCommand(): Command {
  return new Command("show")
    .description("show a schema's modules with their tokens and positions, and which parts of a prompt come from the cache")
    .argument("<schema>", "the schema's file")
    .argument("[prompt]", "the prompt's file")
    .option("--all", "show all modules, even of a large schema")
    .option("--corpus <dir>", "the corpus of the documents")
    .option("--data <file>", "values for the prompt: a JSON object of modules and their arguments; - is standard input")
    .option("--allow-outside", "allow src and imports from outside the schema's folder")
    .addOption(modelOption())
    .option("--json", "print one JSON object, with all modules")
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice pml show trip.pml
  $ kvsplice pml show trip.pml packing.pml
  $ kvsplice pml show trip.pml packing.pml --json | jq .prompt
  $ kvsplice pml show answer.pml crossings.pml --corpus bridges.kv`,
    )
    .action(show);
}

async function show(schemaFile: string, promptFile: string | undefined, options: Options): Promise<void> {
  const language = await loadLanguage(options, options.corpus);
  await withDocuments(options.corpus === undefined ? {} : { corpus: options.corpus }, async (documents) => {
    const { layout, compiled } = await openSchema(schemaFile, promptFile, language, documents, options);
    const tree = describe(layout, compiled, documents);
    if (options.json) process.stdout.write(`${JSON.stringify(report(layout, tree, compiled, language.contextLength))}\n`);
    else {
      process.stdout.write(`${renderTree(tree, options)}\n`);
      for (const line of summary(layout, compiled, language.contextLength)) process.stdout.write(`${line}\n`);
    }
  });
}

function report(layout: Layout, tree: Description, compiled: Compiled | undefined, contextLength: number) {
  return {
    schema: layout.schema.name,
    length: layout.length,
    context: contextLength,
    blocks: blocksOf(layout).length,
    scaffolds: layout.scaffolds.map(({ path, modules, block }) => ({ path, modules, tokens: block.tokens.length })),
    tree,
    ...(compiled && {
      prompt: {
        tokens: { cached: compiled.cachedTokens, computed: compiled.computedTokens },
        cached_share: cachedShare(compiled),
        end: compiled.end,
        modules: compiled.modules,
        scaffolds: compiled.scaffolds,
      },
    }),
  };
}

function cachedShare({ cachedTokens, computedTokens }: Compiled): number {
  return cachedTokens / (cachedTokens + computedTokens);
}

/** Maximum scaffolds to list; a schema may have as many as it has modules. */
const MAX_SCAFFOLDS = 10;

function summary(layout: Layout, compiled: Compiled | undefined, contextLength: number): string[] {
  const used = new Set(compiled?.scaffolds);
  const scaffolds = layout.scaffolds.slice(0, MAX_SCAFFOLDS).map(({ path, modules, block }) => {
    const use = compiled ? (used.has(path) ? ", used" : ", not used") : "";
    return `scaffold ${path}: ${modules.join(" ")} (${counted(block.tokens.length, "token")}${use})`;
  });
  const more = layout.scaffolds.length - scaffolds.length;
  const tokens = blocksOf(layout).reduce((sum, block) => sum + block.tokens.length, 0);
  return [
    "",
    ...scaffolds,
    ...(more > 0 ? [`… ${more} more scaffolds`] : []),
    `${layout.schema.name}: ${layout.length} of the context's ${contextLength} positions; ${counted(blocksOf(layout).length, "block")} with ${counted(tokens, "token")} to store.`,
    ...(compiled ? [promptLine(compiled)] : []),
  ];
}

function promptLine(compiled: Compiled): string {
  const { cachedTokens, computedTokens, end } = compiled;
  const share = (100 * cachedShare(compiled)).toFixed(0);
  return `The prompt: ${cachedTokens} tokens from the cache (${share} %), ${computedTokens} computed; it ends at position ${end}.`;
}
