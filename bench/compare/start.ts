/**
 * Measures kvsplice and its peers, and writes RESULTS.md, results.json and two plots.
 *
 *     npm --prefix bench ci && npm --prefix bench start
 *     npm --prefix bench start -- --quick                      the same in two minutes: fewer workloads and rounds
 *     npm --prefix bench start -- --accuracy nq.json --accuracy xquad.json
 *
 * `--accuracy` names a file with the output of `kvsplice eval --json` (which runs for longer than all of this).
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { DEFAULT_PRECISION, loadTokenizer, PRECISIONS, type Precision, tokensOf, withoutCache } from "../../engine/index.js";
import type { KvspliceOperations } from "./kvsplice-peer.js";
import type { LlamaOperations } from "./llama-peer.js";
import { commitOf, describeMachine } from "./machine.js";
import { startPeer } from "./peer.js";
import { firstTokenPlot } from "./plots.js";
import { renderResults } from "./report.js";
import type { Accuracy, FirstToken, Results } from "./results.js";
import { type Series, seriesOf } from "./series.js";
import { shifted, type Workload, workloads } from "./workloads.js";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    threads: { type: "string" },
    accuracy: { type: "string", multiple: true, default: [] },
  },
});
const { quick } = values;
const machine = describeMachine();
const threads = Number(values.threads ?? machine.cores);
const began = performance.now();

const folder = fileURLToPath(new URL("..", import.meta.url));
const gguf = fileURLToPath(new URL("../../models/kvsplice-135m.gguf", import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), "kvsplice-bench-"));
const say = (what: string) => process.stderr.write(`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${what}\n`);

const language = await loadTokenizer({ path: gguf });
const work = workloads(language);
const kvsplice = startPeer<KvspliceOperations>("./kvsplice-peer.ts");
const llama = startPeer<LlamaOperations>("./llama-peer.ts");

/** More than the number of prompts whose spliced KV the engine keeps. */
const PLACES = 100;

const precision: Precision = DEFAULT_PRECISION;
const encode = (workload: Workload, at = precision) => kvsplice.call("encode", { precision: at, threads, plan: workload.plan });
/** Every answer is at different positions from the previous ones. */
let places = 0;
const spliced = (workload: Workload, newTokens = 1, at = precision) =>
  kvsplice.call("answer", { precision: at, threads, plan: shifted(workload.plan, ++places % PLACES), newTokens });
const full = (workload: Workload, newTokens = 1) =>
  kvsplice.call("answer", { precision, threads, plan: withoutCache(workload.plan), newTokens });
const cold = (workload: Workload, flashAttention = true, newTokens = 1) =>
  llama.call("prefill", { tokens: tokensOf(workload.plan), flashAttention, newTokens, threads });

const agreement = { same: 0, of: 0 };
const encodings: number[] = [];
const llamaLoads: number[] = [];

/** Spliced answers per round: they are much shorter than the peers' and vary more. */
const SPLICED_A_ROUND = 3;

/** One workload in all ways, in turns. */
async function compare(workload: Workload, rounds: number, plainRounds = 0): Promise<FirstToken> {
  const { name, documents, tokens, fresh } = workload;
  say(`${name}: ${tokens} tokens, ${rounds} round${rounds === 1 ? "" : "s"}`);
  const encoded = await encode(workload);
  if (documents >= 10 && tokens / documents < 200) encodings.push((1000 * encoded.tokens) / encoded.ms);
  const times = {
    spliced: [] as number[],
    fetch: [] as number[],
    splice: [] as number[],
    full: [] as number[],
    llama: [] as number[],
    plain: [] as number[],
  };
  await spliced(workload);
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < SPLICED_A_ROUND; i++) {
      const { first_token_ms, fetch_ms, splice_ms } = await spliced(workload);
      times.spliced.push(first_token_ms);
      times.fetch.push(fetch_ms);
      times.splice.push(splice_ms);
    }
    const peer = await cold(workload);
    times.llama.push(peer.first_token_ms);
    const own = await full(workload);
    times.full.push(own.first_token_ms);
    if (round < plainRounds) times.plain.push((await cold(workload, false)).first_token_ms);
    if (round === 0) {
      agreement.of++;
      if (own.ids[0] === peer.ids[0] || (own.ids.length === 0 && language.tokenizer.decode([peer.ids[0]!]) === "")) agreement.same++;
    }
  }
  return {
    name,
    documents,
    tokens,
    fresh,
    spliced_ms: seriesOf(times.spliced),
    fetch_ms: seriesOf(times.fetch),
    splice_ms: seriesOf(times.splice),
    full_ms: seriesOf(times.full),
    llama_ms: seriesOf(times.llama),
    ...(times.plain.length > 0 && { llama_plain_ms: seriesOf(times.plain) }),
  };
}

async function times(count: number, measure: () => Promise<number>): Promise<Series> {
  const measured: number[] = [];
  for (let i = 0; i < count; i++) measured.push(await measure());
  return seriesOf(measured);
}

say("node-llama-cpp and kvsplice load");
const { ms: firstLoad, release } = await llama.call("load", { path: gguf, threads });
llamaLoads.push(firstLoad);
await cold(work.documents(1));
await encode(work.documents(1));
await full(work.documents(1));

const first_token: FirstToken[] = [];
const ten = work.documents(10);
first_token.push(await compare(work.documents(1), quick ? 1 : 3));
first_token.push(await compare(work.documents(5), quick ? 1 : 3));
first_token.push(await compare(ten, quick ? 2 : 5, quick ? 1 : 3));
if (!quick) {
  first_token.push(await compare(work.documents(20), 2));
  first_token.push(await compare(work.documents(40), 2, 1));
  first_token.push(await compare(work.long(4, 500), 2));
  first_token.push(await compare(work.long(4, 1_000), 1));
  // Four of 2,000 words do not fit the model's context of 8,192 tokens; three of 1,900 do.
  first_token.push(await compare(work.long(3, 1_900), 1));
}
first_token.push(await compare(work.schema(), quick ? 1 : 3));

say("link tokens");
const links: Results["links"][number][] = [];
for (const count of [0, 1, 4]) {
  const workload = work.documents(10, count);
  const { computed_tokens } = await spliced(workload);
  links.push({
    link_tokens: count,
    computed_tokens,
    first_token_ms: await times(quick ? 5 : 15, async () => (await spliced(workload)).first_token_ms),
  });
}

say("store precisions");
for (const each of PRECISIONS) await encode(ten, each);
const byPrecision = PRECISIONS.map((each) => ({ precision: each, first: [] as number[], splice: [] as number[] }));
for (let round = 0; round < (quick ? 5 : 15); round++) {
  for (const { precision: at, first, splice } of byPrecision) {
    const { first_token_ms, fetch_ms, splice_ms } = await spliced(ten, 1, at);
    first.push(first_token_ms);
    splice.push(fetch_ms + splice_ms);
  }
}
const precisions = byPrecision.map(({ precision: at, first, splice }) => ({
  precision: at,
  first_token_ms: seriesOf(first),
  fetch_and_splice_ms: seriesOf(splice),
}));

say("splice and a plain copy");
const bytesPerToken = 4 * 2 * 30 * 3 * 64;
const cached_tokens = ten.tokens - ten.fresh;
const splices: number[] = [];
const copies: number[] = [];
for (let round = 0; round < (quick ? 9 : 25); round++) {
  copies.push(await kvsplice.call("copy", { bytes: cached_tokens * bytesPerToken }));
  const { fetch_ms, splice_ms } = await spliced(ten);
  splices.push(fetch_ms + splice_ms);
}

say("node-llama-cpp's prefix cache");
const prefix_cache: Results["prefix_cache"][number][] = [];
for (const [name, next] of [
  ["the same documents in the same order, another question", work.asked(10)],
  ["the same documents in another order", work.reordered(10)],
] as const) {
  const kept: number[] = [];
  const own: number[] = [];
  const first_token_ms = await times(quick ? 1 : 3, async () => {
    for (let i = 0; i < SPLICED_A_ROUND; i++) {
      await spliced(ten);
      own.push(
        (await kvsplice.call("answer", { precision, threads, plan: shifted(next.plan, places % PLACES), newTokens: 1 })).first_token_ms,
      );
    }
    const contextSize = ten.tokens + 64;
    const at = { flashAttention: true, newTokens: 1, threads, contextSize };
    await llama.call("prefill", { ...at, tokens: tokensOf(ten.plan) });
    const after = await llama.call("prefillAfter", { ...at, tokens: tokensOf(next.plan) });
    kept.push(after.kept);
    return after.first_token_ms;
  });
  prefix_cache.push({ name, first_token_ms, kept_tokens: kept[0]!, spliced_ms: seriesOf(own) });
}

say("tokens after the first");
const continued = work.continued(10);
const DECODED = quick ? 24 : 48;
await encode(continued);
const decoded = { kvsplice: [] as number[], llama: [] as number[], plain: [] as number[], tokens: 0 };
for (let round = 0; round < (quick ? 1 : 3); round++) {
  for (let i = 0; i < SPLICED_A_ROUND; i++) {
    const { per_token_ms, ids } = await spliced(continued, DECODED);
    decoded.kvsplice.push(per_token_ms);
    decoded.tokens = ids.length;
  }
  decoded.llama.push((await cold(continued, true, DECODED)).per_token_ms);
  decoded.plain.push((await cold(continued, false, DECODED)).per_token_ms);
}

say("new processes: load, first answer, memory");
const planFile = join(temporary, "plan.json");
const fullFile = join(temporary, "full.json");
const blocks = join(temporary, "blocks");
const warmCache = join(temporary, "graphs");
writeFileSync(planFile, JSON.stringify(ten.plan));
writeFileSync(fullFile, JSON.stringify(withoutCache(ten.plan)));
await kvsplice.call("keepOnDisk", { precision, threads, plan: ten.plan, dir: blocks });
type FirstAnswer = {
  load_ms: number;
  first_token_ms: number;
  process_ms: number;
  encoded_tokens: number;
  peak_bytes: number;
  libraries_bytes: number;
  mapped_bytes: number;
};
const firstAnswer = (plan: string, cache: string): FirstAnswer =>
  JSON.parse(
    execFileSync(process.execPath, [fileURLToPath(new URL("./first-answer.mjs", import.meta.url)), plan, String(threads), cache, blocks], {
      encoding: "utf8",
    }),
  );
const coldLoads = Array.from({ length: quick ? 1 : 3 }, (_, i) => firstAnswer(planFile, join(temporary, `graphs-${i}`)).load_ms);
firstAnswer(planFile, warmCache);
const warm = Array.from({ length: quick ? 2 : 5 }, () => firstAnswer(planFile, warmCache));
if (warm.some(({ encoded_tokens }) => encoded_tokens > 0))
  throw new Error("A new process had to encode: the blocks on disk do not match its plan.");
const peak = warm.reduce((a, b) => (a.peak_bytes > b.peak_bytes ? a : b));
const fullPeak = firstAnswer(fullFile, warmCache).peak_bytes;
const lone = startPeer<LlamaOperations>("./llama-peer.ts");
llamaLoads.push((await lone.call("load", { path: gguf, threads })).ms);
await lone.call("prefill", { tokens: tokensOf(ten.plan), flashAttention: true, newTokens: 24, threads });
const llamaPeak = await lone.call("peakMemory", {});
await lone.end();
await kvsplice.end();
await llama.end();

const tenCold = first_token.find(({ name }) => name === ten.name)!;
const versions = JSON.parse(readFileSync(join(folder, "node_modules/node-llama-cpp/package.json"), "utf8")) as { version: string };
const results: Results = {
  machine,
  threads,
  quick,
  seconds: Math.round((performance.now() - began) / 1000),
  versions: { kvsplice: commitOf(folder), node_llama_cpp: versions.version, llama_cpp: release },
  first_token,
  links,
  precisions,
  prefix_cache,
  decode: {
    context: continued.tokens,
    tokens: decoded.tokens,
    kvsplice_ms: seriesOf(decoded.kvsplice),
    llama_ms: seriesOf(decoded.llama),
    llama_plain_ms: seriesOf(decoded.plain),
  },
  encode: { tokens: cached_tokens, kvsplice_tokens_per_s: seriesOf(encodings), llama_tokens_per_s: rateOf(tenCold) },
  splice: { tokens: cached_tokens, bytes: cached_tokens * bytesPerToken, splice_ms: seriesOf(splices), copy_ms: seriesOf(copies) },
  load: {
    cold_ms: seriesOf(coldLoads),
    cached_ms: seriesOf(warm.map(({ load_ms }) => load_ms)),
    cached_first_answer_ms: seriesOf(warm.map(({ load_ms, first_token_ms }) => load_ms + first_token_ms)),
    process_ms: seriesOf(warm.map(({ process_ms }) => process_ms)),
    llama_ms: seriesOf(llamaLoads),
  },
  memory: {
    weights: statSync(gguf).size,
    live_kv: (ten.tokens + 24) * bytesPerToken,
    spliced: peak.peak_bytes,
    libraries: peak.libraries_bytes,
    mapped: peak.mapped_bytes,
    full: fullPeak,
    llama: llamaPeak,
  },
  accuracy: values.accuracy.flatMap(accuracyOf),
  agreement,
};

const plot = async (name: string, rows: readonly FirstToken[], along: "documents" | "tokens", title: string) =>
  writeFileSync(join(folder, name), await firstTokenPlot(rows, along, title));
await plot(
  "first-token-by-documents.svg",
  first_token.filter(({ name }) => /documents? of 130/.test(name)),
  "documents",
  "Time to the first token over documents",
);
await plot(
  "first-token-by-tokens.svg",
  first_token.toSorted((a, b) => a.tokens - b.tokens),
  "tokens",
  "Time to the first token over tokens",
);
writeFileSync(join(folder, "results.json"), `${JSON.stringify(results, null, 2)}\n`);
writeFileSync(join(folder, "RESULTS.md"), renderResults(results));
rmSync(temporary, { recursive: true });
say("wrote bench/RESULTS.md, bench/results.json and two plots");

/** Prefill of the ten documents with the peer's better setting. */
function rateOf({ tokens, llama_ms, llama_plain_ms }: FirstToken): Series {
  const better = llama_plain_ms && llama_plain_ms.median < llama_ms.median ? llama_plain_ms : llama_ms;
  const rate = (ms: number) => (1000 * tokens) / ms;
  return { median: rate(better.median), min: rate(better.max), max: rate(better.min), runs: better.runs };
}

function accuracyOf(path: string): Accuracy[] {
  const {
    precision,
    activations,
    seed,
    results: found,
  } = JSON.parse(readFileSync(path, "utf8")) as Pick<Accuracy, "precision" | "activations" | "seed"> & { results: Accuracy[] };
  return found.map(({ mode, link_tokens, questions, exact_match, contains, f1 }) => ({
    file: basename(path),
    precision,
    activations,
    seed,
    mode,
    link_tokens,
    questions,
    exact_match,
    contains,
    f1,
  }));
}
