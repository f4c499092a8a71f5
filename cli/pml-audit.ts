import { Command, InvalidArgumentError, Option } from "commander";
import pc from "picocolors";
import stringWidth from "string-width";
import { KvspliceError, type Link } from "../engine/index.js";
import { withInterrupt } from "./interrupt.js";
import { linkOf } from "./link.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { withDocuments } from "./pml-documents.js";
import { compileFiles, languageOf, type ReadOptions, readData, readFiles } from "./pml-files.js";
import { type ModuleAudit, measureModules, type PmlAudit, type WayOfPrompting } from "./pml-measure.js";
import { progressBar } from "./progress.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";

type Options = ReadOptions &
  StoreOptions &
  ModelOptions & {
    readonly store?: string;
    readonly corpus?: string;
    readonly link: readonly Link[];
    readonly tolerance: number;
    readonly json?: boolean;
  };

const LINKS = "0.15,0.3";
const TOLERANCE = 0.1;

export function pmlAuditCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("audit")))
    .description("measure how much each module loses by being encoded without the text before it, and what fixes it")
    .argument("<schema>", "the schema's file")
    .argument("<prompts...>", "files of typical prompts for the schema")
    .addOption(new Option("--link <list>", "ways of linking to try").argParser(linkList).default(linkList(LINKS), LINKS))
    .option("--tolerance <nats>", "divergence that a module may add before it is reported as suffering", nats, TOLERANCE)
    .option("--store <dir>", "folder for the KV states of modules, including those encoded for a trial")
    .option("--corpus <dir>", "the corpus of the documents")
    .option("--data <file>", "values for the prompts: a JSON object of modules and their arguments; - is standard input")
    .option("--allow-outside", "allow src and imports from outside the schema's folder")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
First, each prompt is answered in its natural form: without modules and with
nothing cached. The divergence of a way is the distance of its distribution from
that of the natural answer, over the answer's tokens, at most 1 per prompt. That
of a module is what it adds when only it comes from the cache. For modules that
suffer, possible fixes are tried: what they see (context), what they are encoded
with (scaffold), recomputing some of their tokens (--link) or all of them
(cache="false"). The schema itself is not changed.

Examples:
  $ kvsplice pml audit trip.pml packing.pml
  $ kvsplice pml audit support.pml asked/*.pml --link 0.1,0.2,head=8 --tolerance 0.05
  $ kvsplice pml audit trip.pml packing.pml --json | jq '.modules[] | select(.suffers)'`,
    )
    .action(audit);
}

function linkList(text: string): Link[] {
  return text.split(",").map((name) => {
    const link = linkOf(name);
    if (!link) throw new InvalidArgumentError("Name the ways of linking to measure, such as 0.15,0.3.");
    return link;
  });
}

function nats(text: string): number {
  const number = Number(text);
  if (text.trim() === "" || !(number >= 0 && number <= 1)) throw new InvalidArgumentError("Give a number of nats from 0 to 1.");
  return number;
}

async function audit(schemaFile: string, promptFiles: string[], options: Options): Promise<void> {
  const { corpus, link: links, tolerance, json } = options;
  const data = options.data === undefined ? undefined : readData(options.data);
  const choice = await chooseModel(options, corpus ?? options.store);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(json && { json }), signal }, async (model) =>
      withDocuments({ model, ...(corpus !== undefined && { corpus }) }, async (documents) => {
        const [schema, ...prompts] = readFiles(schemaFile, [...new Set(promptFiles)], options);
        const markup = { language: languageOf(model), ...(documents && { documents }), ...(data && { data }) };
        compileFiles([schema!, ...prompts], markup);
        if (schema!.kind !== "schema")
          throw new KvspliceError(
            "bad_markup",
            `${schemaFile} does not contain a valid schema; kvsplice pml check ${schemaFile} shows why.`,
          );
        const store = openConfiguredStore(options.store ?? corpus, options);
        const bar = progressBar("{bar} {percentage}% | {value}/{total} | {eta_formatted} left", { json });
        try {
          const found = await measureModules(model, [schema!, ...prompts], markup, {
            links,
            tolerance,
            how: { store, signal },
            onStep: (done, known) => bar.tell(done, known, {}),
          });
          bar.stop();
          if (json) process.stdout.write(`${JSON.stringify({ model: model.name, prompts: prompts.length, tolerance, ...found })}\n`);
          else process.stdout.write(report(found, tolerance));
        } finally {
          bar.stop();
          await store.close();
        }
      }),
    ),
  );
}

function report({ ways, modules }: PmlAudit, tolerance: number): string {
  const suffering = modules.filter(({ suffers }) => suffers);
  const summary =
    suffering.length === 0
      ? `No module adds more than ${tolerance}.`
      : `${suffering.map(({ module }) => module).join(", ")} ${suffering.length === 1 ? "suffers" : "suffer"} from being encoded separately.`;
  return `${table(["prompts", "divergence", "same first", "same answer", "computed"], ways.map(wayRow))}\n\n${table(
    ["module", "in prompts", "adds"],
    modules.map(({ module, prompts, divergence, suffers }) => [suffers ? pc.yellow(module) : module, `${prompts}`, divergence.toFixed(3)]),
  )}\n\n${summary}\n${suffering.map(mendsText).join("")}`;
}

function wayRow({ way, divergence, same_first_token, same_answer, computed }: WayOfPrompting): string[] {
  return [way, divergence.toFixed(3), ...[same_first_token, same_answer, computed].map((percent) => `${percent.toFixed(0)} %`)];
}

function mendsText({ module, mends }: ModuleAudit): string {
  if (mends.length === 0) return "";
  const rows = mends.map(({ mend, before, after, computed }) => [mend, before.toFixed(3), after.toFixed(3), `${computed.toFixed(0)} %`]);
  return `\n${table([`${module}: possible fixes`, "before", "after", "computed"], rows)}\n`;
}

/** Aligns the first column left and the others right. */
function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((row) => stringWidth(row[column]!))));
  const pad = (cell: string, column: number) => {
    const space = " ".repeat(widths[column]! - stringWidth(cell));
    return column === 0 ? cell + space : space + cell;
  };
  const [head, ...body] = [header, ...rows].map((row) => row.map(pad).join("  ").trimEnd());
  return [pc.dim(head!), ...body].join("\n");
}
