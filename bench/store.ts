/**
 * The store in figures: how it grows with the number of blocks, and what ten documents (1,300 tokens) cost from each
 * tier, at each precision, compared with encoding them again. Cold means after `dd iflag=nocache` has dropped the page cache
 * (posix_fadvise); Redis is a server started here on loopback, left out if the binary is missing.
 *
 *     npx tsx bench/store.ts [--most 100000] [--runs 7] [--only growth|tiers]
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type BlockSource, loadModel, openBlockStore, openDiskStore, PRECISIONS, type StoreConfig, storeBlock } from "../engine/index.js";
import { numberedBlock } from "../test/support/engine/numbered-blocks.js";
import { hasRedis, startRedis } from "../test/support/redis-server.js";

const { values } = parseArgs({
  options: { most: { type: "string", default: "100000" }, runs: { type: "string", default: "7" }, only: { type: "string" } },
});
const RUNS = Number(values.runs);
const [DOCUMENTS, TOKENS] = [10, 130];

const median = (times: number[]) => times.sort((a, b) => a - b)[times.length >> 1]!;
const keyOf = (number: number) => createHash("sha256").update(String(number)).digest("hex");

/** Memory of this process, without the pages of mapped files, in MiB. */
function ownMemory(): number {
  globalThis.gc?.();
  const [, kilobytes] = /RssAnon:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))!;
  return Number(kilobytes) / 1024;
}

async function growth(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "kvsplice-growth-"));
  try {
    console.log(
      `\n| blocks of ${Math.round(numberedBlock(0).k.byteLength / 512)} KiB | open, ms | lookup (get), µs | has, µs | own memory, MiB | file, MiB |`,
    );
    console.log("|---|---|---|---|---|---|");
    let stored = 0;
    for (let count = 1000; count <= Number(values.most); count *= 10) {
      const filling = openDiskStore(dir);
      for (; stored < count; stored++) await filling.put(keyOf(stored), numberedBlock(stored));
      await filling.close();
      const before = ownMemory();
      const start = performance.now();
      const store = openDiskStore(dir);
      const open_ms = performance.now() - start;
      const [gets, hass]: [number[], number[]] = [[], []];
      for (let i = 0; i < 2000; i++) {
        const key = keyOf(Math.floor(Math.random() * count));
        const at = performance.now();
        await store.has(key);
        const between = performance.now();
        await store.get(key);
        hass.push(between - at);
        gets.push(performance.now() - between);
      }
      const memory = ownMemory() - before;
      await store.close();
      const bytes = Number(execFileSync("stat", ["-c", "%s", join(dir, "blocks.lmdb")], { encoding: "utf8" }));
      console.log(
        `| ${count} | ${open_ms.toFixed(1)} | ${(1000 * median(gets)).toFixed(0)} | ${(1000 * median(hass)).toFixed(0)} | ${Math.max(0, memory).toFixed(1)} | ${(bytes / 2 ** 20).toFixed(0)} |`,
      );
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function tiers(): Promise<void> {
  const server = hasRedis ? await startRedis() : undefined;
  console.log(`\n${DOCUMENTS} documents of ${TOKENS} tokens, fetch + splice in ms, median of ${RUNS} (first token in brackets)\n`);
  console.log("| precision | MiB | memory | disk, warm | disk, cold | Redis | encoded again |\n|---|---|---|---|---|---|---|");
  for (const precision of PRECISIONS) {
    const model = await loadModel({ precision });
    const dir = mkdtempSync(join(tmpdir(), "kvsplice-tiers-"));
    try {
      const file = join(dir, "blocks.lmdb");
      const sources = Array.from(
        { length: DOCUMENTS },
        (_, i): BlockSource => ({ tokens: Array.from({ length: TOKENS }, (_, j) => 1000 + ((i * 7919 + j * 104_729) % 40_000)) }),
      );
      const question = model.tokenizer.encode("\nQuestion: What is it?", { control: true });
      // Each run in a different order, so that none reuses the spliced KV of the previous one.
      const planOf = (run: number) => ({
        pieces: [
          ...sources.map((_, i) => ({ block: sources[(i + run) % DOCUMENTS]!, at: i * TOKENS })),
          { tokens: question, at: DOCUMENTS * TOKENS },
        ],
      });
      const redis = server && { redis: { url: server.url, prefix: `${precision}:` } };
      const filling = openBlockStore({ disk: { path: dir }, ...redis });
      for (const source of sources) await storeBlock(model, source, { store: filling });
      await filling.flush();
      const bytes = await filling.tiers[0]!.bytes();
      await filling.close();

      const measure = async (config: StoreConfig | undefined, before: () => void = () => undefined, keep = false, runs = RUNS) => {
        const [times, firsts]: [number[], number[]] = [[], []];
        const kept = config && keep ? openBlockStore(config) : undefined;
        for (let run = 0; run <= runs; run++) {
          before();
          const store = kept ?? (config && openBlockStore(config));
          const generation = model.generate(planOf(run), { ...(store && { store }), maxNewTokens: 1 });
          for await (const _ of generation);
          const { fetch_ms, splice_ms, first_token_ms } = await generation.stats;
          if (run > 0) times.push(fetch_ms + splice_ms), firsts.push(first_token_ms);
          if (!kept) await store?.close();
        }
        await kept?.close();
        return `${median(times).toFixed(0)} (${median(firsts).toFixed(0)})`;
      };
      const disk = { disk: { path: dir } };
      const row = [
        await measure({ memory: { budget: 2 ** 30 }, ...disk }, undefined, true),
        await measure(disk),
        await measure(disk, () => execFileSync("dd", [`if=${file}`, "iflag=nocache", "count=0"], { stdio: "ignore" })),
        redis ? await measure(redis) : "no redis-server",
        await measure(undefined, undefined, false, 1),
      ];
      console.log(`| ${precision} | ${(bytes / 2 ** 20).toFixed(1)} | ${row.join(" | ")} |`);
    } finally {
      await model.close();
      rmSync(dir, { recursive: true, force: true });
    }
  }
  await server?.stop();
}

console.log(`${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}`);
if (values.only !== "tiers") await growth();
if (values.only !== "growth") await tiers();
