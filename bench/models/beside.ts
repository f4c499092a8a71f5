/**
 * Model files compared with node-llama-cpp in one run: loading, memory, encoding, the first token over ten documents of 130
 * tokens, and further ones. Each program runs in a separate process, one after the other.
 *
 *     npx tsx models/beside.ts FILE.gguf... [--json]   in bench/
 *
 * `--threads 1`: threads; by default one per core. `--context 6000`: also measures further tokens at this many tokens of
 * context. `--brief`: only loads, encoding, the spliced first token and further tokens. `--cache DIR`: keeps the graphs there,
 * and does not report the first load.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { getLlama, LlamaLogLevel, type Token } from "node-llama-cpp";
import {
  type BlockSource,
  DEFAULT_LINK,
  isBlockPiece,
  type Link,
  loadModel,
  loadTokenizer,
  type Model,
  openBlockStore,
  openDiskStore,
  type Plan,
  tokensOf,
  withoutCache,
} from "../../engine/index.js";
import { describeMachine } from "../compare/machine.js";
import { shifted, workloads } from "../compare/workloads.js";

const DOCUMENTS = 10;
const NEW_TOKENS = 32;
const RUNS = 3;
/** The plan that a new process answers, and its blocks, in the folder of the graphs. */
const [PLAN_FILE, BLOCKS_FOLDER] = ["plan.json", "blocks"];
/** Minimum number of llama.cpp's positions for the prompt and its answer. */
const CONTEXT = 2048;

/** Milliseconds by the clock, and of all processors together: the latter hardly depends on other work on the machine. */
type Took = { readonly wall: number; readonly cpu: number };

/** Measurements of one program; memory in bytes. */
type Figures = {
  readonly "first load"?: Took;
  readonly "later load"?: Took;
  /** From the start of the process, over ten documents whose blocks are on disk; without a transpiler. */
  readonly "a new process to its first token"?: Took;
  readonly "first token"?: Took;
  readonly "first token, spliced"?: Took;
  readonly "first token, spliced and linked"?: Took;
  readonly "a token"?: Took;
  /** With a context of `--context` tokens. */
  readonly "a token in a long context"?: Took;
  /** Per token of a prompt, or of documents encoded by themselves. */
  readonly "a token of a prompt"?: Took;
  /** Per token of documents, in 8 bits. */
  readonly "a token in 8 bits"?: Took;
  readonly memory?: { readonly most: number; readonly own: number };
};

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    threads: { type: "string", default: String(availableParallelism()) },
    context: { type: "string" },
    brief: { type: "boolean", default: false },
    cache: { type: "string" },
    program: { type: "string" },
  },
});
const threads = Number(options.threads);
if (options.program) process.stdout.write(JSON.stringify(await measure(options.program, positionals[0]!, options.cache!)));
else beside(positionals);
process.exit(0);

function beside(paths: readonly string[]): void {
  const machine = describeMachine();
  const temporary = mkdtempSync(join(tmpdir(), "kvsplice-beside-"));
  const folder = options.cache ?? temporary;
  const results: Record<string, Figures> = {};
  try {
    for (const path of paths) {
      const first = run("first", path, folder);
      const own = run("kvsplice", path, folder);
      const rest = options.brief ? {} : { "a new process to its first token": newProcess(path, folder), ...run("w8a8", path, folder) };
      results[`${basename(path)}, kvsplice`] = { ...(!options.cache && first), ...own, ...rest };
      results[`${basename(path)}, llama.cpp`] = run("llama.cpp", path, folder);
    }
  } finally {
    rmSync(temporary, { recursive: true });
  }
  const load_after = Math.round(10 * loadavg()[0]!) / 10;
  if (options.json) return console.log(JSON.stringify({ machine, load_after, results }));
  console.log(
    `${machine.cpu}, ${machine.cores} cores, ${threads} threads, ${machine.simd}; load ${machine.load} before, ${load_after} after\n`,
  );
  console.log(
    `| by the clock (by processors) | ${Object.keys(results).join(" | ")} |\n|---|${Object.keys(results)
      .map(() => "---|")
      .join("")}`,
  );
  const rows: readonly [string, Exclude<keyof Figures, "memory">, "s" | "ms"][] = [
    ["first load", "first load", "s"],
    ["later load", "later load", "s"],
    ["a token of a prompt, or encoded", "a token of a prompt", "ms"],
    ["a token encoded with --encoding w8a8", "a token in 8 bits", "ms"],
    ["first token, full prefill", "first token", "ms"],
    ["first token, spliced", "first token, spliced", "ms"],
    ["first token, spliced, 15 % recomputed", "first token, spliced and linked", "ms"],
    ["a new process to its first token, spliced", "a new process to its first token", "s"],
    ["each further token", "a token", "ms"],
    [`each further token at ${options.context} tokens of context`, "a token in a long context", "ms"],
  ];
  const text = ({ wall, cpu }: Took, unit: "s" | "ms") =>
    unit === "s" ? `${(wall / 1000).toFixed(1)} s (${(cpu / 1000).toFixed(1)})` : `${wall.toFixed(1)} ms (${cpu.toFixed(1)})`;
  const print = (name: string, cell: (figures: Figures) => string) =>
    console.log(`| ${name} | ${Object.values(results).map(cell).join(" | ")} |`);
  for (const [name, key, unit] of rows) {
    if (Object.values(results).some((figures) => figures[key])) print(name, (figures) => (figures[key] ? text(figures[key], unit) : ""));
  }
  print("peak memory, not mapped", ({ memory }) =>
    memory ? `${(memory.most / 1e6).toFixed(0)} MB, ${(memory.own / 1e6).toFixed(0)}` : "",
  );
}

function run(program: string, path: string, cache: string): Figures {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ["--import", "tsx", import.meta.filename, path, "--program", program, "--cache", cache, "--threads", String(threads), ...chosen()],
    { encoding: "utf8" },
  );
  if (!stdout) throw new Error(`${program}: ${stderr}`);
  return JSON.parse(stdout) as Figures;
}

function chosen(): string[] {
  return [...(options.brief ? ["--brief"] : []), ...(options.context === undefined ? [] : ["--context", options.context])];
}

/** The built package's, as it is installed, over blocks that `measureOwn` has left on disk. */
function newProcess(path: string, cache: string): Took {
  const program = fileURLToPath(new URL("../compare/first-answer.mjs", import.meta.url));
  const args = [program, join(cache, PLAN_FILE), String(threads), cache, join(cache, BLOCKS_FOLDER), path];
  const runs = Array.from({ length: RUNS }, () => {
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    if (!stdout) throw new Error(`${program}: ${stderr}`);
    const figures = JSON.parse(stdout) as { until_first_ms: number; until_first_cpu_ms: number; encoded_tokens: number };
    if (figures.encoded_tokens > 0) throw new Error("The built package has different block keys: npm run build");
    return { wall: figures.until_first_ms, cpu: figures.until_first_cpu_ms };
  });
  return median(runs);
}

async function timed<T>(work: () => Promise<T>): Promise<Took & { readonly result: T }> {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  const result = await work();
  const { user, system } = process.cpuUsage(cpu);
  return { wall: performance.now() - start, cpu: (user + system) / 1000, result };
}

/** The median of several measurements, by processor time. */
function median(times: readonly Took[]): Took {
  const { wall, cpu } = times.toSorted((a, b) => a.cpu - b.cpu)[times.length >> 1]!;
  return { wall, cpu };
}

function each({ wall, cpu }: Took, count: number): Took {
  return { wall: wall / count, cpu: cpu / count };
}

async function measure(program: string, path: string, cacheDir: string): Promise<Figures> {
  if (program === "llama.cpp") return measurePeer(path);
  if (program === "w8a8") return measureEncoding(await loadModel({ path, cacheDir, threads, encoding: "w8a8" }));
  const { result: model, ...load } = await timed(() => loadModel({ path, cacheDir, threads }));
  if (program === "first") return { "first load": load };
  return { "later load": load, ...(await measureOwn(model, cacheDir)) };
}

async function measureOwn(model: Model, cacheDir: string): Promise<Figures> {
  const store = openBlockStore({ memory: { budget: 2 ** 32 } });
  const { plan } = workloads(model).documents(DOCUMENTS);
  const [beginning, ...documents] = plan.pieces.filter(isBlockPiece).map(({ block }) => block);
  const put = async (block: BlockSource) => store.put(model.keyOf(block), await model.encode(block));
  await put(beginning!);
  const encoding = await timed(() => Promise.all(documents.map(put)));
  writeFileSync(join(cacheDir, PLAN_FILE), JSON.stringify(plan));
  const disk = openDiskStore(join(cacheDir, BLOCKS_FOLDER));
  for (const block of [beginning!, ...documents]) await disk.put(model.keyOf(block), (await store.get(model.keyOf(block)))!);
  await disk.close();
  const first = (plan: Plan, link?: Link) =>
    timed(() => model.generate(plan, { store, maxNewTokens: 1, temperature: 0, ...(link && { link }) }).text);
  const loose: Plan = { pieces: plan.pieces.map((piece, i) => (i > 0 && isBlockPiece(piece) ? { ...piece, loose: true } : piece)) };
  const spliced: Took[] = [];
  const linked: Took[] = [];
  // The first of each allocates memory; the same prompt at other positions is spliced again.
  for (let i = 0; i <= RUNS; i++) {
    spliced.push(await first(shifted(plan, i)));
    if (!options.brief) linked.push(await first(shifted(loose, i), DEFAULT_LINK));
  }
  const full = options.brief ? undefined : await first(withoutCache(plan));
  const further = async (plan: Plan): Promise<Took> => {
    const answer = async (count: number) => {
      const generation = model.generate(plan, { store, maxNewTokens: count, temperature: 0 });
      await generation.text;
      return (await generation.stats).generated_tokens;
    };
    await answer(1);
    const start = await timed(() => answer(1));
    const whole = await timed(() => answer(1 + NEW_TOKENS));
    return each({ wall: whole.wall - start.wall, cpu: whole.cpu - start.cpu }, whole.result - start.result);
  };
  const continued = workloads(model).continued(DOCUMENTS).plan;
  const short = await further(continued);
  return {
    "a token of a prompt": each(
      encoding,
      documents.reduce((sum, { tokens }) => sum + tokens.length, 0),
    ),
    ...(full && { "first token": { wall: full.wall, cpu: full.cpu } }),
    "first token, spliced": median(spliced.slice(1)),
    ...(linked.length > 0 && { "first token, spliced and linked": median(linked.slice(1)) }),
    "a token": short,
    memory: memory(),
    ...(options.context && { "a token in a long context": await further(lengthened(continued, Number(options.context))) }),
  };
}

/** A plan whose blocks are repeated until there are this many tokens, equally often for every program. */
function lengthened({ pieces }: Plan, tokens: number): Plan {
  const [beginning, ...rest] = pieces;
  const documents = rest.filter(isBlockPiece);
  const last = rest.at(-1)!;
  const long: Plan["pieces"][number][] = [beginning!];
  let at = documents[0]!.at;
  for (let i = 0; at < tokens; i++) {
    const piece = documents[i % documents.length]!;
    long.push({ ...piece, at });
    at += piece.block.tokens.length;
  }
  return { pieces: [...long, { ...last, at }] };
}

async function measureEncoding(model: Model): Promise<Figures> {
  const [beginning, ...documents] = workloads(model)
    .documents(DOCUMENTS)
    .plan.pieces.filter(isBlockPiece)
    .map(({ block }) => block);
  await model.encode(beginning!); // builds its graphs and allocates memory
  const encoding = await timed(() => Promise.all(documents.map((block) => model.encode(block))));
  return {
    "a token in 8 bits": each(
      encoding,
      documents.reduce((sum, { tokens }) => sum + tokens.length, 0),
    ),
  };
}

async function measurePeer(path: string): Promise<Figures> {
  const { result: context, ...load } = await timed(async () => {
    const llama = await getLlama({
      build: "never",
      gpu: false,
      maxThreads: threads,
      skipDownload: true,
      logLevel: LlamaLogLevel.error,
      progressLogs: false,
    });
    const model = await llama.loadModel({ modelPath: path });
    const contextSize = Math.max(CONTEXT, Number(options.context ?? 0) + 512);
    return model.createContext({ contextSize, threads: { ideal: threads, min: threads } });
  });
  const works = workloads(await loadTokenizer({ path }));
  const sequence = context.getSequence();
  const { plan, tokens } = works.documents(DOCUMENTS);
  await sequence.evaluateWithoutGeneratingNewTokens(tokensOf(plan).slice(0, 8) as Token[]); // allocates memory
  await sequence.clearHistory();
  const answered = sequence.evaluate(tokensOf(plan) as Token[], { temperature: 0, yieldEogToken: true });
  const full = await timed(() => answered.next());
  const further = async (answered: AsyncGenerator<Token, unknown>) =>
    each(
      await timed(async () => {
        for (let i = 0; i < NEW_TOKENS; i++) await answered.next();
      }),
      NEW_TOKENS,
    );
  const short = await further(answered);
  const used = memory();
  const inLongContext = async () => {
    await sequence.clearHistory();
    const long = tokensOf(lengthened(works.continued(DOCUMENTS).plan, Number(options.context))) as Token[];
    const longAnswer = sequence.evaluate(long, { temperature: 0, yieldEogToken: true });
    await longAnswer.next();
    return further(longAnswer);
  };
  return {
    "later load": load,
    "a token of a prompt": each(full, tokens),
    "first token": { wall: full.wall, cpu: full.cpu },
    "a token": short,
    memory: used,
    ...(options.context && { "a token in a long context": await inLongContext() }),
  };
}

function memory(): { readonly most: number; readonly own: number } {
  const status = readFileSync("/proc/self/status", "utf8");
  const bytes = (key: string) => Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status)![1]) * 1024;
  return { most: bytes("VmHWM"), own: bytes("RssAnon") };
}
