/**
 * Time to fetch 10 documents of 130 tokens from memory and splice them (the default model's shape), at each precision,
 * compared with a plain memory copy of the bytes that the splice writes; the same into a new cache, whose memory is not yet
 * allocated; and to extract one document from the cache, as happens after encoding. Medians of interleaved rounds.
 *
 *     npx tsx bench/splice.ts [rounds]
 */
import { cpus } from "node:os";
import { KvCache } from "../engine/backend/cpu/cache.js";
import { openBlockStore, PRECISIONS } from "../engine/index.js";
import { allocateBlock, blockBytes } from "../engine/kv/block.js";
import { RotaryTable, rotaryFrequencies } from "../engine/kv/rotary.js";
import { keptAs, likeLayers } from "../test/support/engine/plain-kv.js";

const ROUNDS = Number(process.argv[2] ?? 51);
const [DOCUMENTS, TOKENS, HEAD_SIZE] = [10, 130, 64];
const [LAYERS, HEADS] = [30, 3];
const FORM = { layers: likeLayers(LAYERS, HEADS, HEAD_SIZE) };
const table = new RotaryTable(rotaryFrequencies(HEAD_SIZE, 100_000));
const documents = Array.from({ length: DOCUMENTS }, () => {
  const block = allocateBlock(FORM.layers, TOKENS);
  for (const values of [block.k, block.v]) values.forEach((_, i) => (values[i] = Math.random() - 0.5));
  return block;
});

const runs = new Map<string, { run: () => void | Promise<void>; bytes: number; tokens: number; times_ms: number[] }>();
const spliced_bytes = documents.reduce((sum, block) => sum + blockBytes(block), 0);
const [whole, copy] = [Buffer.alloc(spliced_bytes, 1), Buffer.alloc(spliced_bytes)];
runs.set("copy in one piece", { run: () => void whole.copy(copy), bytes: spliced_bytes, tokens: DOCUMENTS * TOKENS, times_ms: [] });

const layer = TOKENS * HEADS * HEAD_SIZE;
const rows = Array.from({ length: 2 * LAYERS }, () => new Float32Array(DOCUMENTS * layer));
const copyRows = () =>
  documents.forEach(({ k, v }, document) => {
    for (let i = 0; i < LAYERS; i++) {
      rows[2 * i]!.set(k.subarray(i * layer, (i + 1) * layer), document * layer);
      rows[2 * i + 1]!.set(v.subarray(i * layer, (i + 1) * layer), document * layer);
    }
  });
runs.set("copy of each document's layers", { run: copyRows, bytes: spliced_bytes, tokens: DOCUMENTS * TOKENS, times_ms: [] });

for (const precision of PRECISIONS) {
  const store = openBlockStore({ memory: { budget: 2 ** 30 } });
  const blocks = documents.map((block) => keptAs(block, precision));
  for (const [i, block] of blocks.entries()) await store.put(String(i), block);
  const positions = documents.map((_, i) => Int32Array.from({ length: TOKENS }, (_, token) => i * TOKENS + token));
  const splice = (name: string, cacheOf: () => KvCache) =>
    runs.set(name, {
      bytes: blocks.reduce((sum, block) => sum + blockBytes(block), 0),
      tokens: DOCUMENTS * TOKENS,
      times_ms: [],
      async run() {
        const cache = cacheOf();
        cache.truncate(0);
        cache.reserve(DOCUMENTS * TOKENS);
        const found = await Promise.all(blocks.map((_, i) => store.get(String(i))));
        found.forEach((block, i) => cache.splice(block!, positions[i]!));
      },
    });
  const cache = new KvCache(FORM, [table]);
  splice(`splice ${precision}`, () => cache);
  if (precision === "int8") splice("splice int8 into a new cache", () => new KvCache(FORM, [table]));
}
for (const precision of PRECISIONS) {
  const cache = new KvCache(FORM, [table]);
  const positions = Int32Array.from({ length: TOKENS }, (_, token) => token);
  cache.splice(documents[0]!, positions);
  runs.set(`extract one document as ${precision}`, {
    run: () => void cache.extract(0, TOKENS, precision),
    bytes: blockBytes(cache.extract(0, TOKENS, precision)),
    tokens: TOKENS,
    times_ms: [],
  });
}

for (let round = -3; round < ROUNDS; round++) {
  for (const { run, times_ms } of runs.values()) {
    const start = performance.now();
    await run();
    if (round >= 0) times_ms.push(performance.now() - start);
  }
}

const quantile = (values: readonly number[], share: number) => values.toSorted((a, b) => a - b)[Math.round(share * (values.length - 1))]!;
const medianOf = (name: string) => quantile(runs.get(name)!.times_ms, 0.5);
const fastest_copy = Math.min(medianOf("copy in one piece"), medianOf("copy of each document's layers"));
console.log(
  `${cpus()[0]!.model}, Node ${process.version}, ${DOCUMENTS * TOKENS} tokens, ${(spliced_bytes / 2 ** 20).toFixed(1)} MiB of float32 KV, ${ROUNDS} rounds`,
);
console.table(
  Object.fromEntries(
    [...runs].map(([name, { bytes, tokens, times_ms }]) => [
      name,
      {
        "bytes per token": Math.round(bytes / tokens),
        "median ms": medianOf(name).toFixed(2),
        "10th to 90th percentile": `${quantile(times_ms, 0.1).toFixed(2)} to ${quantile(times_ms, 0.9).toFixed(2)}`,
        "fastest ms": Math.min(...times_ms).toFixed(2),
        "relative to the faster copy": (medianOf(name) / fastest_copy).toFixed(2),
      },
    ]),
  ),
);
