import { existsSync } from "node:fs";
import { Command } from "commander";
import pc from "picocolors";
import { Chunks, type CorpusFile } from "../rag/index.js";
import { counted } from "./words.js";

type Options = { readonly store: string; readonly json?: boolean };

export function listCommand(): Command {
  return new Command("list")
    .description("list a corpus's files with their chunks and tokens, and mark those that are no longer on disk")
    .requiredOption("--store <dir>", "folder that `kvsplice precompute` filled")
    .option("--json", "print one JSON object per line")
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice list --store handbook.kv
  $ kvsplice list --store handbook.kv --json | jq -r 'select(.gone) | .path'`,
    )
    .action(list);
}

async function list(options: Options): Promise<void> {
  const chunks = await Chunks.open(options.store);
  try {
    for (const file of chunks.files()) {
      const gone = !existsSync(file.path);
      process.stdout.write(`${options.json ? JSON.stringify({ ...file, gone }) : line(file, gone)}\n`);
    }
  } finally {
    await chunks.close();
  }
}

function line({ path, chunks, tokens, problems }: CorpusFile, gone: boolean): string {
  const notes = [
    gone ? pc.yellow("no longer on disk") : "",
    problems.length > 0 ? pc.yellow(counted(problems.length, "problem")) : "",
  ].filter((note) => note !== "");
  return [path, pc.dim(`${counted(chunks, "chunk")}, ${counted(tokens, "token")}`), ...notes].join("  ");
}
