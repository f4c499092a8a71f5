/**
 * The first answer of a new process, as one object on stdout: times from the start of loading and of the process, peak
 * memory, memory of Node and the libraries before that, and the part mapped from files at the end. Plain JavaScript
 * using the built package, as it is installed.
 *
 *     node first-answer.mjs PLAN.json THREADS CACHE_DIR [BLOCKS_DIR [MODEL]]
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { loadModel, openDiskStore } from "../../dist/engine/index.js";

const memory = (name) => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
/** What of each mapped file is in memory, the most first. */
function mappedFiles() {
  const bytes = new Map();
  let file;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    const [, path] = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$/.exec(line) ?? [];
    if (path !== undefined) file = path.startsWith("/") ? basename(path) : undefined;
    const [, kilobytes] = /^Rss:\s+(\d+) kB$/.exec(line) ?? [];
    if (file !== undefined && kilobytes !== undefined) bytes.set(file, (bytes.get(file) ?? 0) + Number(kilobytes) * 1024);
  }
  return Object.fromEntries([...bytes].sort(([, a], [, b]) => b - a).slice(0, 6));
}
const libraries_bytes = memory("VmRSS");

const [planFile, threads, cacheDir, blocks, path] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(planFile, "utf8"));
const start = performance.now();
const model = await loadModel({ path, threads: Number(threads), cacheDir });
const load_ms = performance.now() - start;
const store = blocks === undefined ? undefined : openDiskStore(blocks);
const generation = model.generate(plan, { ...(store && { store }), maxNewTokens: 24 });
let until_first;
for await (const _ of generation) until_first ??= { ms: performance.now(), ...process.cpuUsage() };
const { first_token_ms, encoded_tokens, cached_tokens, computed_tokens } = await generation.stats;
const peak_bytes = memory("VmHWM");
const mapped_bytes = memory("RssFile");
console.log(
  JSON.stringify({
    load_ms,
    first_token_ms,
    until_first_ms: until_first.ms,
    until_first_cpu_ms: (until_first.user + until_first.system) / 1000,
    process_ms: performance.now(),
    encoded_tokens,
    cached_tokens,
    computed_tokens,
    peak_bytes,
    libraries_bytes,
    mapped_bytes,
    files_bytes: mappedFiles(),
  }),
);
await model.close();
