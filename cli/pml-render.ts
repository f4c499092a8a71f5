import { Command } from "commander";
import { diffLines } from "diff";
import pc from "picocolors";
import { KvspliceError } from "../engine/index.js";
import { type Compiled, type Markup, type MarkupOptions, type RenderedPart, renderPrompt, textOfPrompt } from "../pml/index.js";
import { loadLanguage, type ModelOptions, modelOption } from "./model.js";
import { withDocuments } from "./pml-documents.js";
import { markupOptions, openFiles, type ReadOptions, readFile, readFiles } from "./pml-files.js";
import { positiveNumber } from "./positive-number.js";

type Options = ReadOptions & ModelOptions & { readonly corpus?: string; readonly diff?: string; readonly json?: boolean };

export function pmlRenderCommand(): Command {
  return new Command("render")
    .description("print the text that the model reads, with roles, control tokens, positions, gaps, and what comes from the cache")
    .argument("<schema>", "the schema's file")
    .argument("<prompt>", "the prompt's file")
    .option("--diff <file>", "another prompt or another version of the schema; print how its text differs")
    .option("--corpus <dir>", "the corpus of the documents")
    .option("--data <file>", "values for the prompt: a JSON object of modules and their arguments; - is standard input")
    .option("--budget <tokens>", "maximum tokens of the prompt; modules with a priority are dropped until it fits", positiveNumber)
    .option("--allow-outside", "allow src and imports from outside the schema's folder")
    .addOption(modelOption())
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Each row shows the first position of its text, whether it comes from the cache,
and where it was written. "cached after 14" means that the block saw 14 tokens
before it. A line feed in the text is shown as ↵.

Examples:
  $ kvsplice pml render trip.pml packing.pml
  $ kvsplice pml render trip.pml packing.pml --json | jq -r '.parts[].text'
  $ kvsplice pml render trip.pml packing.pml --diff shopping.pml
  $ git show HEAD:trip.pml > before.pml && kvsplice pml render before.pml packing.pml --diff trip.pml`,
    )
    .action(render);
}

async function render(schemaFile: string, promptFile: string, options: Options): Promise<void> {
  const language = await loadLanguage(options, options.corpus);
  await withDocuments(options.corpus === undefined ? {} : { corpus: options.corpus }, async (documents) => {
    // Each is read once, as any of them may be standard input.
    const [schema, prompt] = readFiles(schemaFile, [promptFile], options);
    const other = options.diff === undefined ? undefined : readFile(options.diff, options);
    const markup = markupOptions(language, documents, options);
    const compiled = compiledOf(schema!, prompt!, markup);
    if (!other) {
      const parts = renderPrompt(compiled);
      process.stdout.write(
        options.json
          ? `${JSON.stringify({ parts, text: textOfPrompt(compiled), tokens: tokensOf(compiled) })}\n`
          : drawParts(parts, compiled),
      );
      return;
    }
    const changed = other.kind === "prompt" ? compiledOf(schema!, other, markup) : compiledOf(other, prompt!, markup);
    const changes = diffLines(textOfPrompt(compiled), textOfPrompt(changed));
    const shared = sharedBlocks(compiled, changed);
    if (options.json)
      process.stdout.write(
        `${JSON.stringify({ changes: changes.map(({ added, removed, value }) => ({ change: added ? "added" : removed ? "removed" : "same", text: value })), blocks: shared })}\n`,
      );
    else process.stdout.write(drawChanges(changes, shared));
  });
}

function compiledOf(schema: Markup, prompt: Markup, options: MarkupOptions): Compiled {
  const { compiled } = openFiles([schema, prompt], options);
  if (!compiled)
    throw new KvspliceError(
      "bad_markup",
      `${prompt.file} does not contain a valid prompt for ${schema.file}; kvsplice pml check ${schema.file} ${prompt.file} shows why.`,
    );
  return compiled;
}

function tokensOf({ cachedTokens, computedTokens, end }: Compiled) {
  return { cached: cachedTokens, computed: computedTokens, end };
}

function drawParts(parts: readonly RenderedPart[], { cachedTokens, computedTokens, end }: Compiled): string {
  const rows = parts.flatMap(rowsOf);
  const widths = [0, 1, 2].map((i) => Math.max(...rows.map(({ gutter }) => gutter[i]?.length ?? 0)));
  const lines = rows.map(({ gutter, paint, text }) => {
    const [place = "", state = "", name = ""] = gutter;
    return `${pc.dim(place.padStart(widths[0]!))}  ${paint(state.padEnd(widths[1]!))}  ${pc.dim(name.padEnd(widths[2]!))} ${pc.dim("│")} ${text}`;
  });
  return `${lines.join("\n")}\n\n${cachedTokens} tokens from the cache, ${computedTokens} computed; the prompt ends at position ${end}.\n`;
}

type Row = { readonly gutter: readonly string[]; readonly paint: (text: string) => string; readonly text: string };

function rowsOf(part: RenderedPart): Row[] {
  if (part.kind === "gap") {
    const text = pc.dim(`(${part.end - part.start} unused positions)`);
    return [{ gutter: [String(part.start), "gap"], paint: pc.dim, text }];
  }
  const { text, control, cached, from, role, start, sees } = part;
  const paint = cached ? pc.green : pc.yellow;
  const shown = from.kind === "link" ? "(link tokens)" : text;
  const lines = shown.split(/(?<=\n)/);
  return lines.map((line, i) => {
    const drawn = line.replace("\n", "↵");
    const name = `${from.kind === "prompt" ? "prompt" : from.name}${role && control ? ` <${role}>` : ""}`;
    const state = cached ? `cached${sees === undefined ? "" : ` after ${sees}`}` : "new";
    return { gutter: i === 0 ? [String(start), state, name] : [], paint, text: control ? pc.dim(drawn) : paint(drawn) };
  });
}

/** The number of blocks that both prompts take from the cache, and of those only in the second. */
function sharedBlocks(before: Compiled, after: Compiled): { readonly shared: number; readonly other: number } {
  const keyOf = (piece: Compiled["plan"]["pieces"][number]) =>
    "block" in piece ? [JSON.stringify([piece.block.tokens, piece.block.offsets, piece.block.after])] : [];
  const known = new Set(before.plan.pieces.flatMap(keyOf));
  const keys = after.plan.pieces.flatMap(keyOf);
  const shared = keys.filter((key) => known.has(key)).length;
  return { shared, other: keys.length - shared };
}

function drawChanges(changes: ReturnType<typeof diffLines>, { shared, other }: ReturnType<typeof sharedBlocks>): string {
  const lines = changes.flatMap(({ added, removed, value }) => {
    const [mark, paint] = added ? ["+", pc.green] : removed ? ["-", pc.red] : [" ", pc.dim];
    return value
      .replace(/\n$/, "")
      .split("\n")
      .map((line) => paint(`${mark} ${line}`));
  });
  return `${lines.join("\n")}\n\nIdentical blocks: ${shared}; others: ${other}.\n`;
}
