import { Command } from "commander";
import { Chunks, removeFromCorpus } from "../rag/index.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & { readonly store: string; readonly json?: boolean };

export function removeCommand(): Command {
  return withStoreOptions(new Command("remove"))
    .description("remove documents from a corpus by file or folder, whether or not they are still on disk")
    .argument("<names...>", "files and folders as kvsplice list prints them, or as much of the end of a file's path as makes it unique")
    .requiredOption("--store <dir>", "folder of the corpus")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
The next precompute of a folder adds whatever is still in it.

Examples:
  $ kvsplice remove handbook/old/ --store handbook.kv
  $ kvsplice remove forth-bridge.md --store articles.kv`,
    )
    .action(remove);
}

async function remove(names: readonly string[], options: Options): Promise<void> {
  await (await Chunks.open(options.store)).close(); // fails if there is no corpus, before a store is created there
  const store = openConfiguredStore(options.store, options);
  try {
    const report = await removeFromCorpus(options.store, store, names);
    const { removed, files, chunks, tokens } = report;
    const text = `${counted(removed, "file")} removed. ${options.store} contains ${counted(files, "file")}, ${counted(chunks, "chunk")}, ${counted(tokens, "token")}.`;
    process.stdout.write(`${options.json ? JSON.stringify(report) : text}\n`);
  } finally {
    await store.close();
  }
}
