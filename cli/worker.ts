import { Command } from "commander";
import pc from "picocolors";
import type { Precision } from "../engine/index.js";
import { startWorker } from "../fleet/index.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { positiveNumber } from "./positive-number.js";
import { precisionOption } from "./precision.js";
import { queueOption, withSharedTier } from "./queue.js";
import { openConfiguredStore, type StoreOptions, withStoreOptions } from "./store.js";
import { startTracing } from "./tracing.js";
import { counted } from "./words.js";

type Options = StoreOptions &
  ModelOptions & {
    readonly queue: string;
    readonly concurrency?: number;
    readonly lock: number;
    readonly precision?: Precision;
    readonly json?: boolean;
  };

/** The default memory tier: a worker never reads a block again. */
const NO_MEMORY = "0";

/** How often a worker reports what it has done if there is no terminal. */
const TELL_EVERY_MS = 30_000;

export function workerCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("worker")))
    .description("encode chunks for `kvsplice precompute --queue`, on this machine or any other")
    .addOption(queueOption("the queue's Redis; blocks are stored there too, unless --redis names another").makeOptionMandatory())
    .option(
      "--concurrency <n>",
      "jobs at once: one block is encoded while another is sent (default: 2, or up to 128 on a device, which encodes many together)",
      positiveNumber,
    )
    .option(
      "--lock <seconds>",
      "silence after which a job goes to another worker; raise it if a pass of 256 tokens takes more than half of this time",
      positiveNumber,
      15,
    )
    .addOption(precisionOption())
    .option("--json", "print one JSON object per block")
    .addHelpText(
      "after",
      `
A worker only takes jobs for its model and precision. Ctrl-C stops it after the current jobs; a second Ctrl-C stops it
at once, and another worker then does the jobs. KVSPLICE_QUEUE can set the URL.
If OTEL_EXPORTER_OTLP_ENDPOINT is set, traces are sent there (docs/scale.md).

Examples:
  $ kvsplice worker --queue redis://10.0.0.5:6379
  $ kvsplice worker --queue redis://10.0.0.5:6379 --redis redis://10.0.0.6:6379 --concurrency 4`,
    )
    .action(work);
}

async function work(options: Options): Promise<void> {
  const choice = await chooseModel(options, undefined);
  const endTracing = await startTracing();
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      const store = openConfiguredStore(undefined, withSharedTier({ memory: NO_MEMORY, ...options }));
      const done = { blocks: 0, tokens: 0 };
      const start = performance.now();
      const say = (text: string) => void process.stderr.write(text);
      const line = () =>
        `${counted(done.blocks, "block")} encoded, ${counted(done.tokens, "token")}, ${Math.round((done.tokens / (performance.now() - start)) * 1000)} tokens/s`;
      try {
        const worker = await startWorker({
          url: options.queue,
          model,
          store,
          concurrency: options.concurrency,
          lock_ms: options.lock * 1000,
          onNotice: (notice) => say(`${pc.yellow("warning:")} ${notice}\n`),
          onBlock({ tokens, encoded }) {
            if (encoded) {
              done.blocks++;
              done.tokens += tokens;
            }
            if (options.json) process.stdout.write(`${JSON.stringify({ tokens, encoded })}\n`);
            else if (process.stderr.isTTY) say(`\r${line()}`);
          },
        });
        say(`Waiting for jobs of ${model.name} (${model.id.slice(0, 12)}) in ${model.precision}. Press Ctrl-C to stop.\n`);
        const timer = setInterval(() => process.stderr.isTTY || say(`${line()}\n`), TELL_EVERY_MS);
        await new Promise((resolve) => (signal.aborted ? resolve(undefined) : signal.addEventListener("abort", resolve, { once: true })));
        clearInterval(timer);
        say("\nFinishing the current jobs; press Ctrl-C again to stop at once.\n");
        await worker.close();
        if (!options.json) process.stdout.write(`${line()}.\n`);
      } finally {
        await store.close();
        await endTracing();
      }
    }),
  );
}
