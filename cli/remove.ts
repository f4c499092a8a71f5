import { Command } from "commander";
import { Chunks, removeFromCorpus } from "../rag/index.js";
import { openStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & { readonly store: string; readonly json?: boolean };

export function removeCommand(): Command {
  return withStoreOptions(new Command("remove"))
    .description("take documents out of a corpus, by their files or folders, whether these are still on disk or not")
    .argument("<names...>", "files and folders, or as much of the end of a file's path as no other has, as kvsplice list tells them")
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
The next precompute of a folder reads again what is still in it.

Examples:
  $ kvsplice remove handbook/old/ --store handbook.kv
  $ kvsplice remove forth-bridge.md --store articles.kv`,
    )
    .action(remove);
}

async function remove(names: readonly string[], options: Options): Promise<void> {
  await (await Chunks.open(options.store)).close(); // says that there is no corpus before a store is made there
  const store = openStore(options.store, options);
  try {
    const report = await removeFromCorpus(options.store, store, names);
    const { removed, files, chunks, tokens } = report;
    const text = `${counted(removed, "file")} removed. ${options.store} holds ${counted(files, "file")}, ${counted(chunks, "chunk")}, ${counted(tokens, "token")}.`;
    process.stdout.write(`${options.json ? JSON.stringify(report) : text}\n`);
  } finally {
    await store.close();
  }
}
