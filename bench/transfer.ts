/**
 * Export and import of a corpus of gigabytes: MiB per second, and the process's peak memory.
 * The blocks are generated as they are read, 7 MiB each (160 tokens of the default model in float32).
 *
 *     npx tsx bench/transfer.ts [--blocks 300] [--dir FOLDER]
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Block, BlockStore } from "../engine/index.js";
import { allocateBlock } from "../engine/kv/block.js";
import { openCorpus } from "../rag/index.js";
import { fakeEmbedder, fakeModel } from "../test/support/rag/fakes.js";

const { values } = parseArgs({ options: { blocks: { type: "string", default: "300" }, dir: { type: "string", default: tmpdir() } } });
const dir = await mkdtemp(join(values.dir, "kvsplice-transfer-"));
const whole = allocateBlock(
  Array.from({ length: 30 }, () => ({ heads: 3, headSize: 64 })),
  160,
);
whole.k.forEach((_, i) => (whole.k[i] = Math.sin(i)));
whole.v.set(whole.k);
let peak = 0;
const timer = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 20);
try {
  const documents = Array.from({ length: Number(values.blocks) }, (_, i) =>
    JSON.stringify({ title: `Document ${i}`, text: `Text ${i} of many.` }),
  );
  await writeFile(join(dir, "documents.jsonl"), documents.join("\n"));
  const path = join(dir, "out.safetensors");
  const from = await openCorpus(join(dir, "from"), { model: fakeModel(), store: made(), embedder: fakeEmbedder(), create: true });
  await from.precompute([join(dir, "documents.jsonl")]);
  console.log(`before: ${mb(process.memoryUsage.rss())} MiB of memory`);
  await timed("export", () => from.exportTo(path).then(({ bytes }) => bytes));
  const to = await openCorpus(join(dir, "to"), { model: fakeModel(), store: nowhere(), embedder: fakeEmbedder(), create: true });
  let bytes = 0;
  await timed("import", () => to.importFrom(path, { onProgress: (done) => (bytes = done.bytes) }).then(() => bytes));
  await from.close();
  await to.close();
} finally {
  clearInterval(timer);
  await rm(dir, { recursive: true });
}

/** A store that has every block. */
function made(): BlockStore {
  return {
    get: async (): Promise<Block> => whole,
    has: async () => true,
    put: async () => undefined,
    delete: async () => undefined,
    async *keys() {},
    close: async () => undefined,
  };
}

/** A store that accepts every block and keeps none. */
function nowhere(): BlockStore {
  const keys = new Set<string>();
  return { ...made(), get: async () => undefined, has: async (key) => keys.has(key), put: async (key) => void keys.add(key) };
}

async function timed(what: string, run: () => Promise<number>): Promise<void> {
  peak = 0;
  const start = performance.now();
  const bytes = await run();
  const seconds = (performance.now() - start) / 1000;
  console.log(
    `${what}: ${mb(bytes)} MiB in ${seconds.toFixed(1)} s, ${(bytes / 2 ** 20 / seconds).toFixed(0)} MiB/s; at most ${mb(peak)} MiB of memory`,
  );
}

function mb(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
