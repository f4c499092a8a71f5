import { Command } from "commander";
import pc from "picocolors";
import { Chunks, type CorpusChunk } from "../rag/index.js";
import { counted } from "./words.js";

type Options = { readonly store: string; readonly json?: boolean };

export function chunksCommand(): Command {
  return new Command("chunks")
    .description('list the chunks of a corpus by their refs, as prompts name them: <document ref="..."/>')
    .argument("[refs...]", "show the text of these chunks instead")
    .requiredOption("--store <dir>", "folder that `kvsplice precompute` filled")
    .option("--json", "print one JSON object per line")
    .addHelpText(
      "after",
      `
A ref is a file and the chunk's number in it. The file's name is enough, or as
much of the end of its path as makes it unique. A file with one chunk needs no
number.

Examples:
  $ kvsplice chunks --store bridges.kv
  $ kvsplice chunks forth-bridge.md#2 guides/index.md#1 --store bridges.kv
  $ kvsplice chunks --store bridges.kv --json | jq -r .ref`,
    )
    .action(list);
}

async function list(refs: readonly string[], options: Options): Promise<void> {
  const chunks = await Chunks.open(options.store);
  try {
    const line = refs.length > 0 ? whole : summary;
    const print = (chunk: CorpusChunk) => process.stdout.write(`${options.json ? JSON.stringify(report(chunk)) : line(chunk)}\n`);
    for (const chunk of refs.length > 0 ? refs.map((ref) => chunks.chunk(ref)) : chunks.all()) print(chunk);
  } finally {
    await chunks.close();
  }
}

function summary({ ref, title, tokens }: CorpusChunk): string {
  return `${ref} ${pc.dim(`${title}, ${counted(tokens.length, "token")}`)}`;
}

function whole(chunk: CorpusChunk): string {
  return `${summary(chunk)}\n${chunk.text}\n`;
}

function report({ ref, path, title, text, tokens }: CorpusChunk) {
  return { ref, path, title, text, tokens: tokens.length };
}
