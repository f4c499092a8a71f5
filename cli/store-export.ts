import { relative } from "node:path";
import { Command } from "commander";
import { sealOf } from "../engine/index.js";
import { withCorpus } from "./corpus.js";
import { type ModelOptions, withModelOptions } from "./model.js";
import { progressBar, sizeText } from "./progress.js";
import { type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & ModelOptions & { readonly store: string; readonly json?: boolean };

export function storeExportCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("export")))
    .description("write a corpus with its blocks to a safetensors file, for another machine")
    .argument("<file>", "the file to write; it must not exist")
    .requiredOption("--store <dir>", "folder of the corpus")
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
docs/store-format.md describes the file. Readers of safetensors accept headers of up to 100 MB (about 180,000 blocks). A
larger corpus is written as several files: corpus-00001-of-00002.safetensors, ...

Examples:
  $ kvsplice store export handbook.safetensors --store handbook.kv
  $ kvsplice store export handbook.safetensors --store handbook.kv --json | jq .bytes`,
    )
    .action(exportStore);
}

async function exportStore(file: string, options: Options): Promise<void> {
  await withCorpus({ ...options, create: false }, async (corpus, _model, signal) => {
    const bar = progressBar("{bar} {percentage}% | {value}/{total} blocks, {size} | {eta_formatted} left", options);
    const report = await corpus
      .exportTo(file, {
        seal: sealOf(),
        signal,
        onProgress: ({ blocks, total, bytes }) => bar.tell(blocks, total, { size: sizeText(bytes) }),
      })
      .finally(() => bar.stop());
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else {
      const { paths, bytes, blocks, files, chunks, tokens } = report;
      process.stdout.write(
        `${paths.map((path) => relative(".", path)).join(", ")}: ${counted(files, "file")}, ${counted(chunks, "chunk")}, ${counted(tokens, "token")} in ${counted(blocks, "block")}, ${sizeText(bytes)}.\n`,
      );
    }
  });
}
