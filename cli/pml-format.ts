import { readFileSync, writeFileSync } from "node:fs";
import { Command } from "commander";
import { storageError } from "../engine/index.js";
import { folderFiles, formatPml, hasErrors, parseMarkup, renderDiagnostics } from "../pml/index.js";

type Options = { readonly check?: boolean; readonly write?: boolean };

export function pmlFormatCommand(): Command {
  return new Command("format")
    .description("print files in the standard PML layout; their meaning does not change")
    .argument("<files...>", "schemas and prompts; - is standard input")
    .option("--check", "change nothing; list files that differ from the layout and exit with code 1")
    .option("--write", "write the files in place")
    .addHelpText(
      "after",
      `
Files with errors are not changed.

Examples:
  $ kvsplice pml format trip.pml
  $ kvsplice pml format prompts/*.pml --write
  $ kvsplice pml format prompts/*.pml --check`,
    )
    .action(format);
}

function format(paths: string[], options: Options): void {
  for (const path of new Set(paths)) {
    const read = path === "-" ? { bytes: readFileSync(0) } : folderFiles(".", { allowOutside: true }).read(path, "");
    if ("problem" in read) {
      fail(`${path}: ${read.message}`);
      continue;
    }
    const { schema, prompt, diagnostics } = parseMarkup(read.bytes, { file: path === "-" ? "stdin" : path });
    const tree = schema ?? prompt;
    if (!tree || hasErrors(diagnostics)) {
      fail(renderDiagnostics(diagnostics));
      continue;
    }
    const formatted = formatPml(tree);
    const same = Buffer.from(formatted).equals(read.bytes);
    if (options.check && !same) {
      process.stdout.write(`${path}\n`);
      process.exitCode = 1;
    }
    if (options.write && !options.check && !same && path !== "-") write(path, formatted);
    if (!options.check && (!options.write || path === "-")) process.stdout.write(formatted);
  }
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw storageError(error, path, "make the file writable");
  }
  process.stdout.write(`${path}\n`);
}

function fail(message: string): void {
  process.stderr.write(`${message}\n`);
  process.exitCode = 1;
}
