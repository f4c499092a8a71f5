/**
 * Tokens per second of a fleet of 1 and of 2 workers on this machine, and how long the jobs of a killed worker take to
 * arrive. The workers share the cores: two on one machine show the cost of the queue, not the benefit of a second machine.
 * Needs redis-server, and the build (`npm run build`).
 *
 *     npx tsx bench/fleet.ts [--chunks 40] [--lock 15]
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";

import { type BlockSource, loadModel, openBlockStore } from "../engine/index.js";
import { openFleet } from "../fleet/index.js";
import { listFiles, loadFile, splitDocument } from "../rag/index.js";
import { startRedis } from "../test/support/redis-server.js";

const { values } = parseArgs({ options: { chunks: { type: "string", default: "40" }, lock: { type: "string", default: "15" } } });
const root = join(import.meta.dirname, "..");
const model = await loadModel();
const sources = await chunksOf(join(root, "examples/corpus"), Number(values.chunks));
const tokens = sources.reduce((sum, { tokens }) => sum + tokens.length, 0);
console.log(
  `${sources.length} chunks, ${tokens} tokens of ${model.name} in ${model.precision}; ${cpus().length} cores, ${cpus()[0]!.model}`,
);

await alone();
for (const count of [1, 2]) await measure(count, false);
await measure(2, true);
await model.close();

async function chunksOf(folder: string, count: number): Promise<BlockSource[]> {
  const chunks: BlockSource[] = [];
  for (const path of (await listFiles([folder])).files) {
    const { documents } = await loadFile(path, await readFile(path));
    for (const document of documents) chunks.push(...(await splitDocument(document, model)).map(({ tokens }) => ({ tokens })));
  }
  return chunks.slice(0, count);
}

/** The same without queue and Redis, for comparison. */
async function alone(): Promise<void> {
  const start = performance.now();
  for (const source of sources) await model.encode(source);
  console.log(`this process only, nothing stored: ${rate(start)} tokens/s`);
}

async function measure(count: number, kill: boolean): Promise<void> {
  const redis = await startRedis();
  const store = openBlockStore({ redis: { url: redis.url, prefix: "kvsplice:" } });
  const fleet = await openFleet({ url: redis.url, model, store });
  const workers = Array.from({ length: count }, () => work(redis.url));
  try {
    while (fleet.activity.workers < count) await setTimeout(50);
    const start = performance.now();
    let arrived = 0;
    let killed = Number.NaN;
    const all = sources.map(async (source) => {
      await fleet.encodeMissing(model.keyOf(source), source);
      arrived++;
      if (!kill || arrived !== sources.length >> 1) return;
      killed = performance.now();
      workers[0]!.kill("SIGKILL");
    });
    await Promise.all(all);
    if (!kill) console.log(`${count} worker${count === 1 ? "" : "s"}: ${rate(start)} tokens/s`);
    else {
      const seconds = ((performance.now() - killed) / 1000).toFixed(1);
      console.log(
        `2 workers, one killed halfway: ${fleet.activity.redone} jobs were repeated; all had arrived ${seconds} s after the kill (--lock ${values.lock})`,
      );
    }
  } finally {
    await fleet.close();
    await store.close();
    for (const worker of workers) worker.kill("SIGKILL");
    await redis.stop();
  }
}

function work(url: string): ChildProcess {
  return spawn(process.execPath, [join(root, "dist/cli/main.js"), "worker", "--queue", url, "--lock", values.lock], { stdio: "ignore" });
}

function rate(start: number): string {
  return ((tokens / (performance.now() - start)) * 1000).toFixed(0);
}
