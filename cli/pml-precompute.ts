import { SingleBar } from "cli-progress";
import { Command } from "commander";
import type { Precision } from "../engine/index.js";
import { blocksOf } from "../pml/index.js";
import { withInterrupt } from "./interrupt.js";
import { openSchema, type ReadOptions } from "./pml-files.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { encodeMissing } from "./pml-blocks.js";
import { precisionOption } from "./precision.js";
import { openStore, withStoreOptions, type StoreOptions } from "./store.js";

type Options = ReadOptions &
  StoreOptions &
  ModelOptions & { readonly store: string; readonly precision?: Precision; readonly json?: boolean };

export function pmlPrecomputeCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("precompute")))
    .description("compute the KV states of all modules and scaffolds of a schema")
    .argument("<schema>", "the schema's file")
    .requiredOption("--store <dir>", "folder that keeps the states")
    .option("--allow-outside", "read src and imports from outside of the schema's folder")
    .addOption(precisionOption())
    .option("--json", "print the report as one JSON object")
    .addHelpText(
      "after",
      `
What is stored is skipped: run it again after a change, or after an end in the middle.
Documents are the corpus's own (kvsplice precompute); one folder may hold both.

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
      const store = openStore(options.store, options);
      const bar = new SingleBar({
        format: "{bar} {percentage}% | {value}/{total} tokens | {encoded} blocks encoded, {stored} there before | {eta_formatted} left",
        hideCursor: true,
        stream: process.stderr,
        fps: 10,
      });
      const quiet = options.json === true || !process.stderr.isTTY;
      const start = performance.now();
      if (!quiet)
        bar.start(
          sources.reduce((sum, { tokens }) => sum + tokens.length, 0),
          0,
          { encoded: 0, stored: 0 },
        );
      try {
        const done = await encodeMissing(model, store, sources, {
          signal,
          pinned: true,
          onBlock: ({ tokens, encoded, stored }) => void (quiet || bar.update(tokens, { encoded, stored })),
        });
        if (!quiet) bar.stop();
        const seconds = (performance.now() - start) / 1000;
        if (options.json) process.stdout.write(`${JSON.stringify({ ...done, seconds })}\n`);
        else
          process.stdout.write(
            `${done.blocks} blocks of ${schemaFile}: ${done.encoded} encoded (${done.encoded_tokens} tokens) in ${seconds.toFixed(1)} s, ${done.stored} stored before.\n`,
          );
      } finally {
        if (!quiet) bar.stop();
        await store.close();
      }
    }),
  );
}
