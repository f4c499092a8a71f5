import { Command, InvalidArgumentError } from "commander";
import pc from "picocolors";
import type { Precision } from "../engine/index.js";
import { startWorker } from "../fleet/index.js";
import { withInterrupt } from "./interrupt.js";
import { chooseModel, type ModelOptions, withModel, withModelOptions } from "./model.js";
import { precisionOption } from "./precision.js";
import { queueOption, withSharedTier } from "./queue.js";
import { openStore, type StoreOptions, withStoreOptions } from "./store.js";
import { counted } from "./words.js";

type Options = StoreOptions & ModelOptions & {
  readonly queue: string;
  readonly concurrency: number;
  readonly lock: number;
  readonly precision?: Precision;
  readonly json?: boolean;
};

/** A worker reads no block again, unless it is told to keep some. */
const NO_MEMORY = "0";

/** How often a worker that is no terminal says what it has done. */
const TELL_EVERY_MS = 30_000;

export function workerCommand(): Command {
  return withModelOptions(withStoreOptions(new Command("worker")))
    .description("encode chunks for `kvsplice precompute --queue`, on this machine or any other")
    .addOption(queueOption("the Redis of the queue; blocks go into the same one unless --redis names another").makeOptionMandatory())
    .option("--concurrency <n>", "jobs at once: one is encoded while the block of another travels", count, 2)
    .option("--lock <seconds>", "silence after which a job is given to another worker; raise it for a model whose pass of 256 tokens takes over half of it", count, 15)
    .addOption(precisionOption())
    .option("--json", "print one JSON object a block")
    .addHelpText(
      "after",
      `
A worker takes jobs for its own model and precision alone. Ctrl-C finishes those begun and ends; a second one ends at
once, and so does a power cut: the jobs are then done by another worker. KVSPLICE_QUEUE may give the URL.

Examples:
  $ kvsplice worker --queue redis://10.0.0.5:6379
  $ kvsplice worker --queue redis://10.0.0.5:6379 --redis redis://10.0.0.6:6379 --concurrency 4`,
    )
    .action(work);
}

function count(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("Give a whole number from 1.");
  return Number(text);
}

async function work(options: Options): Promise<void> {
  const choice = await chooseModel(options, undefined);
  await withInterrupt((signal) =>
    withModel({ ...choice, ...(options.json && { json: true }), signal }, async (model) => {
      const store = openStore(undefined, withSharedTier({ memory: NO_MEMORY, ...options }));
      const done = { blocks: 0, tokens: 0 };
      const start = performance.now();
      const say = (text: string) => void process.stderr.write(text);
      const line = () => `${counted(done.blocks, "block")} encoded, ${counted(done.tokens, "token")}, ${Math.round((done.tokens / (performance.now() - start)) * 1000)} tokens/s`;
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
        say(`Waiting for jobs of ${model.name} (${model.id.slice(0, 12)}) in ${model.precision}. Ctrl-C ends.\n`);
        const timer = setInterval(() => process.stderr.isTTY || say(`${line()}\n`), TELL_EVERY_MS);
        await new Promise((resolve) => (signal.aborted ? resolve(undefined) : signal.addEventListener("abort", resolve, { once: true })));
        clearInterval(timer);
        say("\nFinishing what was begun; Ctrl-C again ends at once.\n");
        await worker.close();
        if (!options.json) process.stdout.write(`${line()}.\n`);
      } finally {
        await store.close();
      }
    }),
  );
}
