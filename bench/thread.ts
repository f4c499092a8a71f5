/**
 * The cost of the model's thread: the same steps, splices and extractions with the CPU backend in this thread and
 * through messages, in turns. Medians and fastest, in ms; then the memory taken by opening each.
 *
 *     npx tsx bench/thread.ts [--model FILE] [--rounds 40]
 */
import { parseArgs } from "node:util";
import type { Backend, Cache } from "../engine/backend/backend.js";
import { CpuBackend } from "../engine/backend/cpu/backend.js";
import { graphId } from "../engine/backend/cpu/identity.js";
import { modelThread, ThreadBackend } from "../engine/backend/thread/backend.js";
import { defaultCacheDir } from "../engine/cache-dir.js";
import { contentHash } from "../engine/content-hash.js";
import type { Block } from "../engine/kv/block.js";
import { readSpec } from "../engine/model/arch/index.js";
import { openModelFile } from "../engine/model/files/open.js";
import { defaultModelPath } from "../engine/model/language.js";

const { values } = parseArgs({ options: { model: { type: "string" }, rounds: { type: "string", default: "40" } } });
const rounds = Number(values.rounds);
const path = values.model ?? (await defaultModelPath());
const cacheDir = defaultCacheDir();
const file = openModelFile(path);
const spec = readSpec(file);
const options = {
  path,
  quantize: undefined,
  spec,
  id: graphId(await contentHash(file, cacheDir), spec, "int8"),
  adapters: [],
  cacheDir,
  activations: "int8" as const,
};
file.close();

const DOCUMENTS = 10;
const TOKENS = 130;
const ROWS = DOCUMENTS * TOKENS;
const from = (start: number, count: number) => Array.from({ length: count }, (_, i) => start + i);
const mib = () => process.memoryUsage().rss / 2 ** 20;

type Side = {
  readonly name: string;
  readonly backend: Backend;
  readonly cache: Cache;
  readonly blocks: Block[];
  readonly mib: number;
  readonly took: Map<string, number[]>;
};

async function sideOf(name: string, open: () => Promise<Backend>): Promise<Side> {
  const before = mib();
  const backend = await open();
  const opened = mib() - before;
  const cache = backend.createCache();
  await cache.reserve(ROWS + 200);
  const blocks: Block[] = [];
  for (let i = 0; i < DOCUMENTS; i++) {
    await backend.run([{ cache, tokens: from(100 * i, TOKENS), positions: from(0, TOKENS), logits: 0 }]);
    blocks.push(await cache.extract(0, TOKENS, "int8"));
    cache.truncate(0);
  }
  return { name, backend, cache, blocks, mib: opened, took: new Map() };
}

async function timed({ took }: Side, what: string, work: () => Promise<unknown>): Promise<void> {
  const start = performance.now();
  await work();
  took.set(what, [...(took.get(what) ?? []), performance.now() - start]);
}

async function round(side: Side): Promise<void> {
  const { backend, cache, blocks } = side;
  cache.truncate(0);
  await timed(side, `splice of ${DOCUMENTS} blocks of ${TOKENS} tokens`, () =>
    Promise.all(blocks.map((block, i) => cache.splice(block, Int32Array.from(from(TOKENS * i, TOKENS))))),
  );
  await timed(side, `pass of 27 tokens over ${ROWS}`, () =>
    backend.run([{ cache, tokens: from(5, 27), positions: from(ROWS, 27), logits: 1 }]),
  );
  for (let step = 0; step < 4; step++) {
    await timed(side, "pass of one token, with its logits", () =>
      backend.run([{ cache, tokens: [7], positions: [ROWS + 27 + step], logits: 1 }]),
    );
  }
  await timed(side, `extraction of ${TOKENS} tokens`, async () => cache.extract(0, TOKENS, "int8"));
}

const sides = [
  await sideOf("this thread", () => CpuBackend.open(options)),
  await sideOf("its own thread", () => ThreadBackend.open(modelThread("bench", undefined), options)),
];
for (let i = 0; i < rounds; i++) for (const side of i % 2 ? sides.toReversed() : sides) await round(side);

console.log(`| median (fastest), ms | ${sides.map(({ name }) => name).join(" | ")} | median increase |\n|---|---|---|---|`);
for (const what of sides[0]!.took.keys()) {
  const sorted = sides.map(({ took }) => took.get(what)!.toSorted((a, b) => a - b));
  const medians = sorted.map((times) => times[Math.floor(times.length / 2)]!);
  console.log(
    `| ${what} | ${sorted.map((times, i) => `${medians[i]!.toFixed(2)} (${times[0]!.toFixed(2)})`).join(" | ")} | ${(100 * (medians[1]! / medians[0]! - 1)).toFixed(0)} % |`,
  );
}
console.log(
  `\nOpened in ${sides.map(({ name, mib }) => `${name}: ${mib.toFixed(0)} MiB`).join(", in ")} (the second maps the same weights).`,
);
await Promise.all(sides.map(({ backend }) => backend.close()));
