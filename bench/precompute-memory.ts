/**
 * Memory of a process that precomputes: `npx tsx bench/precompute-memory.ts [--chunks 1000] [--memory 0]`. Documents of one
 * short chunk each, with the included model; --memory is the memory tier, which `kvsplice precompute` does not use.
 * "own" is the process's private memory (RssAnon), "mapped" is files in memory: weights and the store (RssFile).
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { loadModel, openBlockStore, readStoreConfig } from "../engine/index.js";
import { openCorpus } from "../rag/index.js";

const { values } = parseArgs({ options: { chunks: { type: "string", default: "1000" }, memory: { type: "string", default: "0" } } });
const count = Number(values.chunks);
const ROWS = 10;

function resident_MiB(name: "RssAnon" | "RssFile" | "VmHWM"): number {
  const [, kilobytes] = new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync("/proc/self/status", "utf8"))!;
  return Math.round(Number(kilobytes) / 1024);
}

const dir = mkdtempSync(join(tmpdir(), "kvsplice-memory-"));
try {
  const lines = Array.from({ length: count }, (_, index) =>
    JSON.stringify({
      title: `Article ${index}`,
      text: `The number ${index} of this series speaks of ${index * 7} lamps and ${index * 13} doors, and of no others.`,
    }),
  );
  const documents = join(dir, "documents");
  const perFile = Math.ceil(count / (ROWS * 5));
  await mkdir(documents);
  for (let start = 0; start < count; start += perFile)
    await writeFile(join(documents, `${start}.jsonl`), lines.slice(start, start + perFile).join("\n"));

  const model = await loadModel();
  const store = openBlockStore(readStoreConfig({ memory: values.memory, folder: join(dir, "kv") }));
  const corpus = await openCorpus(join(dir, "kv"), { model, store, create: true });
  console.log("| chunks | own MiB | mapped MiB | heap MiB | array buffers MiB |\n|---|---|---|---|---|");
  let next = 0;
  await corpus.precompute([documents], {
    onProgress({ encoded }) {
      if (encoded < next) return;
      next += count / ROWS;
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      console.log(
        `| ${encoded} | ${resident_MiB("RssAnon")} | ${resident_MiB("RssFile")} | ${Math.round(heapUsed / 2 ** 20)} | ${Math.round(arrayBuffers / 2 ** 20)} |`,
      );
    },
  });
  console.log(`\nPeak ${resident_MiB("VmHWM")} MiB for ${corpus.totals.chunks} chunks, ${corpus.totals.tokens} tokens.`);
  await corpus.close();
  await store.close();
  await model.close();
} finally {
  rmSync(dir, { recursive: true, force: true });
}
