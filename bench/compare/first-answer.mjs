/**
 * The first answer of a new process, as one object on stdout: times from the start of loading and of the process, and
 * the most memory that it held; before, what Node and the libraries hold, and at the end, what of it is mapped from
 * files. Plain JavaScript over the built package, as it is installed.
 *
 *     node first-answer.mjs PLAN.json THREADS CACHE_DIR [BLOCKS_DIR]
 */
import { readFileSync } from "node:fs";
import { loadModel, openDiskStore } from "../../dist/engine/index.js";

const memory = (name) => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
const libraries_bytes = memory("VmRSS");

const [planFile, threads, cacheDir, blocks] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(planFile, "utf8"));
const start = performance.now();
const model = await loadModel({ threads: Number(threads), cacheDir });
const load_ms = performance.now() - start;
const store = blocks === undefined ? undefined : openDiskStore(blocks);
const generation = model.generate(plan, { ...(store && { store }), maxNewTokens: 24 });
for await (const _ of generation);
const { first_token_ms, encoded_tokens, cached_tokens, computed_tokens } = await generation.stats;
const peak_bytes = memory("VmHWM");
const mapped_bytes = memory("RssFile");
console.log(JSON.stringify({ load_ms, first_token_ms, process_ms: performance.now(), encoded_tokens, cached_tokens, computed_tokens, peak_bytes, libraries_bytes, mapped_bytes }));
await model.close();
