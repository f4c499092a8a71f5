/**
 * Time to the first token of a question over ten documents that have not been encoded, with 0, 1, 2 and 4 workers. The server
 * and each worker are pinned to separate cores (`taskset`), a fifth of this machine's each; rows that need more cores than
 * the machine has are left out. Redis and the client are not pinned.
 *
 *     npx tsx bench/new-documents.ts [--workers 0,1,2,4] [--cores-each 1] [--documents 10] [--runs 7]
 *     npx tsx bench/new-documents.ts --pass 150
 *
 * With `--pass`, a model without weights waits that many ms in each pass instead of computing, here and in the workers, all in
 * this process. This shows how the server divides documents, and the gain, on a machine with too few cores for the real model.
 *
 * It needs redis-server, and taskset (Linux) without `--pass`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openBlockStore } from "../engine/index.js";
import { startWorker } from "../fleet/index.js";
import { fakeEmbedder } from "../test/support/rag/fakes.js";
import { startRedis } from "../test/support/redis-server.js";
import { wordyModel } from "../test/support/server/fake-serving.js";
import { remove, startServing } from "../test/support/server/serving.js";
import { MODEL, numberOption, quantile, startServerOn, startWorkerOn, textOption } from "./serving.js";

const CORES = availableParallelism();
const counts = textOption("workers", "0,1,2,4").split(",").map(Number);
const each = numberOption("cores-each", Math.max(1, Math.floor(CORES / (1 + Math.max(...counts)))));
const documents = numberOption("documents", 10);
const runs = numberOption("runs", 7);
const pass_ms = process.argv.includes("--pass") ? numberOption("pass", 150) : undefined;

/** Warm-up questions, by which the server measures its workers and itself. */
const WARM_UP = 3;
/** Servers count the workers once a second. */
const COUNTED_ms = 1_500;
const WORDS_OF_A_DOCUMENT = 90;

type Cost = { readonly encoded_tokens: number; readonly elsewhere_tokens?: number; readonly elsewhere_ms?: number };

let asked = 0;
/** Documents that nobody has seen. */
function newDocuments(): object[] {
  asked++;
  const words = ["keeper", "harbour", "lamp", "winter", "letter", "rope", "island", "captain", "morning", "storm", "road", "clock"];
  return Array.from({ length: documents }, (_, i) => ({
    title: `Report ${asked}.${i}`,
    text: Array.from({ length: WORDS_OF_A_DOCUMENT }, (_, w) => words[(asked * 31 + i * 17 + w * w * 7) % words.length]).join(" "),
  }));
}

const coresOf = (place: number) => `${place * each}-${(place + 1) * each - 1}`;

type Place = { readonly url: string; stop(): Promise<void> };

/** The real model, in processes pinned to separate cores. */
async function startPinned(count: number, queue: string): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-new-documents-"));
  const server = await startServerOn(coresOf(0), "--store", folder, "--redis", queue, "--encode-queue", queue);
  const workers = await Promise.all(Array.from({ length: count }, (_, i) => startWorkerOn(coresOf(i + 1), queue)));
  return {
    url: server.url,
    async stop() {
      await Promise.all([server, ...workers].map((process) => process.stop()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Models whose passes wait, in this process. */
async function startWaiting(count: number, queue: string, ms: number): Promise<Place> {
  const waiting = () => wordyModel({ before: () => sleep(ms) }).then(({ model }) => model);
  const serving = await startServing({ model: await waiting(), embedder: fakeEmbedder(), redis: queue, encodeQueue: queue });
  const ends: (() => Promise<void>)[] = [];
  for (let i = 0; i < count; i++) {
    const store = openBlockStore({ redis: { url: queue, prefix: "kvsplice:" } });
    const worker = await startWorker({ url: queue, model: await waiting(), store });
    ends.push(() => worker.close().then(() => store.close()));
  }
  return {
    url: serving.url,
    async stop() {
      for (const end of ends) await end();
      await serving.stop();
      remove(serving.folder);
    },
  };
}

const where = pass_ms === undefined ? `${each} for each of the server and its workers` : `passes of ${pass_ms} ms without a model`;
console.log(`${cpus()[0]?.model}, ${CORES} cores, ${where}, Node ${process.version}\n`);
console.log(
  "| workers | first token, median ms | slowest | tokens encoded | of them by workers | waited for them, median ms |\n|---|---|---|---|---|---|",
);
for (const count of counts) {
  if (pass_ms === undefined && (1 + count) * each > CORES) {
    console.log(`| ${count} | needs ${(1 + count) * each} cores | | | | |`);
    continue;
  }
  const redis = await startRedis();
  const place = await (pass_ms === undefined ? startPinned(count, redis.url) : startWaiting(count, redis.url, pass_ms));
  try {
    await sleep(COUNTED_ms);
    const [first_ms, costs]: [number[], Cost[]] = [[], []];
    for (let run = -WARM_UP; run < runs; run++) {
      const body = JSON.stringify({
        model: MODEL,
        documents: newDocuments(),
        messages: [{ role: "user", content: "Who kept the lamp?" }],
        max_tokens: 1,
      });
      const start = performance.now();
      const response = await fetch(`${place.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
      });
      if (!response.ok) throw new Error(await response.text());
      const { kvsplice } = (await response.json()) as { readonly kvsplice: Cost };
      if (run < 0) continue;
      first_ms.push(performance.now() - start);
      costs.push(kvsplice);
    }
    const encoded = quantile(
      costs.map(({ encoded_tokens }) => encoded_tokens),
      0.5,
    );
    const elsewhere = quantile(
      costs.map(({ elsewhere_tokens = 0 }) => elsewhere_tokens),
      0.5,
    );
    const waited = quantile(
      costs.map(({ elsewhere_ms = 0 }) => elsewhere_ms),
      0.5,
    );
    console.log(
      `| ${count} | ${quantile(first_ms, 0.5).toFixed(0)} | ${Math.max(...first_ms).toFixed(0)} | ${encoded} | ${Math.round((100 * elsewhere) / encoded)} % | ${count === 0 ? "" : waited.toFixed(0)} |`,
    );
  } finally {
    await place.stop();
    await redis.stop();
  }
}
