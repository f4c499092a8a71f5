import { Command } from "commander";
import type { Precision } from "../engine/index.js";
import { blocksOf } from "../pml/index.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { encodeMissing } from "./pml-blocks.js";
import { openSchema, type ReadOptions } from "./pml-files.js";
import { precisionOption } from "./precision.js";
import { progressBar } from "./progress.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = ReadOptions &
  StoreOptions &
  ModelOptions & { readonly store: string; readonly precision?: Precision; readonly json?: boolean };

export function pmlPrecomputeCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("precompute")))
    .description("compute the KV states of all modules and scaffolds in a schema")
    .argument("<schema>", "the schema's file")
    .requiredOption("--store <dir>", "folder for the KV states")
    .option("--allow-outside", "allow src and imports from outside the schema's folder")
    .addOption(precisionOption())
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
What is already stored is skipped: run the command again after a change or an
interruption. Documents belong to a corpus (kvsplice precompute); one folder can
contain both.

Examples:
  $ kvsplice pml precompute trip.pml --store trip.kv
  $ kvsplice pml precompute trip.pml --store trip.kv --json`,
    )
    .action(precompute);
}

async function precompute(schemaFile: string, options: Options): Promise<void> {
  const choice = await chooseModel(options, options.store);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      const { layout } = await openSchema(schemaFile, undefined, model, undefined, options);
      const sources = blocksOf(layout);
      const store = openConfiguredStore(options.store, options);
      const bar = progressBar(
        "{bar} {percentage}% | {value}/{total} tokens | {encoded} blocks encoded, {stored} already stored | {eta_formatted} left",
        options,
      );
      const total = sources.reduce((sum, { tokens }) => sum + tokens.length, 0);
      const start = performance.now();
      try {
        const done = await encodeMissing(model, store, sources, {
          signal,
          pinned: true,
          onBlock: ({ tokens, encoded, stored }) => bar.tell(tokens, total, { encoded, stored }),
        });
        bar.stop();
        const seconds = (performance.now() - start) / 1000;
        if (options.json) process.stdout.write(`${JSON.stringify({ ...done, seconds })}\n`);
        else
          process.stdout.write(
            `${counted(done.blocks, "block")} of ${schemaFile}: ${done.encoded} encoded (${counted(done.encoded_tokens, "token")}) in ${seconds.toFixed(1)} s, ${done.stored} already stored.\n`,
          );
      } finally {
        bar.stop();
        await store.close();
      }
    }),
  );
}
