/**
 * A separate process that works on one store for a time: `CONFIG ask|precompute BLOCKS SECONDS`. One that asks fetches
 * ten random blocks at once, again and again, for a minimum number of rounds; one that precomputes goes through all of
 * them in its own order, and then takes any. At the end it prints what it did.
 */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fetchBlocks, storeBlock } from "../../../engine/fetch-blocks.js";
import { parseStoreConfig } from "../../../engine/store/config.js";
import { openBlockStore } from "../../../engine/store/tiers.js";
import { numberedEncoder, sourceOf } from "./numbered-blocks.js";

const [config, role, blocks, seconds] = process.argv.slice(2) as [string, string, string, string];
const ENCODING_MS = 5;
const TOKENS = 160;
const LEAST_ANSWERS = 50;

const store = openBlockStore(parseStoreConfig(JSON.parse(config)));
const encoded: number[] = [];
const encoder = numberedEncoder(async (number) => {
  encoded.push(number);
  await sleep(ENCODING_MS);
});
const memory = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) / 1024;
const end = performance.now() + Number(seconds) * 1000;
let [answers, wrong, early_mb] = [0, 0, 0];
const random = () => Math.floor(Math.random() * Number(blocks));
const order = Array.from({ length: Number(blocks) }, (_, number) => ({ number, place: Math.random() }))
  .sort((one, other) => one.place - other.place)
  .map(({ number }) => number);
const least = role === "precompute" ? order.length : LEAST_ANSWERS;
while (answers < least || performance.now() < end) {
  if (early_mb === 0 && performance.now() > end - Number(seconds) * 800) early_mb = memory();
  if (role === "precompute") {
    await storeBlock(encoder, sourceOf(order[answers] ?? random(), TOKENS), { store, pinned: true });
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
