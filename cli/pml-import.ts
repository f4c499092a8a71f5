import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { Command, Option } from "commander";
import { KvspliceError } from "../engine/index.js";
import { importJinja, importPromptCache } from "../pml/index.js";

type Options = { readonly from: "prompt-cache" | "jinja"; readonly out?: string };

export function pmlImportCommand(): Command {
  return new Command("import")
    .description("convert a Prompt Cache schema or prompt, or a static Jinja template or chat prompt, to PML")
    .argument("<file>", "the file to import; - is standard input")
    .addOption(new Option("--from <format>", "the file's format").choices(["prompt-cache", "jinja"]).default("prompt-cache"))
    .option("--out <file>", "write the markup to this file instead of standard output")
    .addHelpText(
      "after",
      `
What is left to decide is reported on standard error.

Examples:
  $ kvsplice pml import persona.xml --out persona.pml
  $ kvsplice pml import answer.jinja --from jinja > answer.pml`,
    )
    .action(run);
}

function run(file: string, options: Options): void {
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (cause) {
    throw new KvspliceError("bad_file", `${file} cannot be read (${(cause as NodeJS.ErrnoException).code}); name another.`, { cause });
  }
  const shown = file === "-" ? "stdin" : file;
  const name = basename(shown)
    .replace(/\..*$/, "")
    .replace(/[^\p{L}\p{N}_.-]/gu, "-");
  const { markup, notes } = options.from === "jinja" ? importJinja(text, name) : importPromptCache(text, shown);
  for (const note of notes) process.stderr.write(`${shown}: ${note}\n`);
  if (options.out === undefined) process.stdout.write(markup);
  else writeFileSync(options.out, markup);
}
