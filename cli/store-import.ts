import { Command } from "commander";
import { MINILM_ID, mustBeImportable, openCorpus, peekExport, type ImportReport } from "../rag/index.js";
import { withInterrupt } from "./interrupt.js";
import { withModel } from "./model.js";
import { precisionOf } from "./precision.js";
import { progressBar, sizeText } from "./progress.js";
import { openStore, withStoreOptions, type StoreOptions } from "./store.js";

type Options = StoreOptions & { readonly store: string; readonly model?: string; readonly json?: boolean };

export function storeImportCommand(): Command {
  return withStoreOptions(new Command("import"))
    .description("bring an exported corpus into a new store, or into one that is there")
    .argument("<file>", "what kvsplice store export wrote; any of several files stands for all of them")
    .requiredOption("--store <dir>", "folder that keeps the corpus")
    .option("--model <gguf>", "the model that it was precomputed with, if not the one that kvsplice carries")
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
  const precision = (await precisionOf({}, options.store)) ?? (await peekExport(file)).precision;
  await withInterrupt((signal) =>
    withModel({ ...options, precision }, async (model) => {
      await mustBeImportable(file, { model, embedder: MINILM_ID });
      const store = openStore(options.store, options);
      const corpus = await openCorpus(options.store, { model, store, create: true });
      const bar = progressBar("{bar} {percentage}% | {value}/{total} blocks, {size} | {eta_formatted} left", options);
      try {
        const report = await corpus.importFrom(file, { signal, onProgress: ({ blocks, total, bytes }) => bar.tell(blocks, total, { size: sizeText(bytes) }) });
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
    `${files} files came in (${unchanged} were there, ${kept} were there otherwise and stay); ${imported} of ${blocks} blocks were new.\n` +
      `${store} holds ${chunks} chunks, ${tokens} tokens.\n`,
  );
}
