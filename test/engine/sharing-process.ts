/**
 * A process of its own that works on one store for a time: `CONFIG ask|precompute BLOCKS SECONDS`. One that asks
 * fetches ten random blocks at once, again and again; one that precomputes goes through all of them, in an order of
 * its own. At the end it prints what it did.
 */
import { fetchBlocks, storeBlock } from "../../engine/fetch.js";
import { parseStoreConfig } from "../../engine/store/config.js";
import { openStore } from "../../engine/store/tiers.js";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { numberedEncoder, sourceOf } from "./numbered-blocks.js";

const [config, role, blocks, seconds] = process.argv.slice(2) as [string, string, string, string];
const ENCODING_MS = 5;
const TOKENS = 160;

const store = openStore(parseStoreConfig(JSON.parse(config)));
const encoded: number[] = [];
const encoder = numberedEncoder(async (number) => {
  encoded.push(number);
  await sleep(ENCODING_MS);
});
const memory = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) / 1024;
const end = performance.now() + Number(seconds) * 1000;
let [answers, wrong, early_mb] = [0, 0, 0];
const random = () => Math.floor(Math.random() * Number(blocks));
while (performance.now() < end) {
  if (early_mb === 0 && performance.now() > end - Number(seconds) * 800) early_mb = memory();
  if (role === "precompute") {
    await storeBlock(encoder, sourceOf(random(), TOKENS), { store, pinned: true });
  } else {
    const sources = Array.from({ length: 10 }, () => sourceOf(random(), TOKENS));
    store.prefetch?.(sources.map((source) => encoder.keyOf(source)));
    const fetched = await fetchBlocks(encoder, sources, { store });
    for (const source of sources) if (fetched.blocks.get(source)!.k[0] !== source.tokens[0] || fetched.warnings.length > 0) wrong++;
  }
  answers++;
}
await store.flush();
const { damaged } = await store.stats();
const late_mb = memory();
await store.close();
process.stdout.write(JSON.stringify({ role, answers, wrong, damaged, encoded, early_mb, late_mb }));
