import { Command } from "commander";
import { sealOf } from "../engine/index.js";
import { type ImportReport, mustBeImportable, openCorpus, peekExport } from "../rag/index.js";
import { type EmbedderOptions, openEmbedder, withEmbedderOption } from "./embedder.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { progressBar, sizeText } from "./progress.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & ModelOptions & EmbedderOptions & { readonly store: string; readonly json?: boolean };

export function storeImportCommand(): Command {
  return withEmbedderOption(withModelOptions(withStoreOptions(new Command("import"))))
    .description("import an exported corpus into a new or existing store")
    .argument("<file>", "a file written by kvsplice store export; if there are several, name any one of them")
    .requiredOption("--store <dir>", "folder of the corpus")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
What is already in the store is not changed. An interrupted import resumes where it stopped.

Examples:
  $ kvsplice store import handbook.safetensors --store handbook.kv
  $ kvsplice store import handbook.safetensors --store handbook.kv --model hf:OWNER/NAME:Q4_K_M --adapter hf:OWNER/LORA
  $ kvsplice ask "What is the rule for holidays?" --store handbook.kv`,
    )
    .action(importStore);
}

async function importStore(file: string, options: Options): Promise<void> {
  const made = await peekExport(file);
  const { source, encoding = made.encoding, precision = made.precision } = await chooseModel(options, options.store);
  await withInterrupt((signal) =>
    withModel({ source, encoding, precision, ...(options.json && { json: true }), signal }, async (model) => {
      const chosen = await openEmbedder(options, options.store, signal);
      await mustBeImportable(file, { model, embedder: chosen.embedder.id });
      const store = openConfiguredStore(options.store, options);
      const corpus = await openCorpus(options.store, { model, modelSource: source, store, create: true, ...chosen });
      const bar = progressBar("{bar} {percentage}% | {value}/{total} blocks, {size} | {eta_formatted} left", options);
      try {
        const report = await corpus.importFrom(file, {
          seal: sealOf(),
          signal,
          onProgress: ({ blocks, total, bytes }) => bar.tell(blocks, total, { size: sizeText(bytes) }),
        });
        bar.stop();
        if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
        else printReport(report, options.store);
      } finally {
        bar.stop();
        await corpus.close();
        await chosen.embedder.close();
        await store.close();
      }
    }),
  );
}

function printReport({ blocks, imported, files, unchanged, kept, link, chunks, tokens }: ImportReport, store: string): void {
  process.stdout.write(
    `${counted(files, "file")} imported (${unchanged} already present, ${kept} differ and were kept); ${imported} of ${counted(blocks, "block")} were new.\n` +
      `${store} contains ${counted(chunks, "chunk")}, ${counted(tokens, "token")}${link === undefined ? "" : `. It links them as the exported corpus's audit found best: ${link}`}.\n`,
  );
}
