import { Command } from "commander";
import { sealOf } from "../engine/index.js";
import { MINILM_ID, mustBeImportable, openCorpus, peekExport, type ImportReport } from "../rag/index.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { progressBar, sizeText } from "./progress.js";
import { openStore, withStoreOptions, type StoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & ModelOptions & { readonly store: string; readonly json?: boolean };

export function storeImportCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("import")))
    .description("bring an exported corpus into a new store, or into one that is there")
    .argument("<file>", "what kvsplice store export wrote; any of several files stands for all of them")
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
What the store has stays as it is. An import that was ended in the middle goes on where it was.

Examples:
  $ kvsplice store import handbook.safetensors --store handbook.kv
  $ kvsplice ask "What is the rule for holidays?" --store handbook.kv`,
    )
    .action(importStore);
}

async function importStore(file: string, options: Options): Promise<void> {
  const { source, precision = (await peekExport(file)).precision } = await chooseModel(options, options.store);
  await withInterrupt((signal) =>
    withModel({ source, precision, ...(options.json && { json: true }), signal }, async (model) => {
      await mustBeImportable(file, { model, embedder: MINILM_ID });
      const store = openStore(options.store, options);
      const corpus = await openCorpus(options.store, { model, modelSource: source, store, create: true });
      const bar = progressBar("{bar} {percentage}% | {value}/{total} blocks, {size} | {eta_formatted} left", options);
      try {
        const report = await corpus.importFrom(file, { seal: sealOf(), signal, onProgress: ({ blocks, total, bytes }) => bar.tell(blocks, total, { size: sizeText(bytes) }) });
        bar.stop();
        if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
        else printReport(report, options.store);
      } finally {
        bar.stop();
        await corpus.close();
        await store.close();
      }
    }),
  );
}

function printReport({ blocks, imported, files, unchanged, kept, chunks, tokens }: ImportReport, store: string): void {
  process.stdout.write(
    `${counted(files, "file")} came in (${unchanged} were there, ${kept} were there otherwise and stay); ${imported} of ${counted(blocks, "block")} were new.\n` +
      `${store} holds ${counted(chunks, "chunk")}, ${counted(tokens, "token")}.\n`,
  );
}
