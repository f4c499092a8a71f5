/**
 * How long the event loop is blocked while 4 MiB of text are refused by the server, split into chunks, and read for
 * embedding, and while a model encodes, prefills and answers: the longest wait of another client or a signal. Times are
 * processor times (of the main thread, from Linux's /proc), so that other work on the machine does not count. The server and
 * its clients share this process. `--passes` leaves out the texts.
 *
 *     npx tsx bench/stall.ts [--model FILE] [--passes] [KIND...]
 */
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import { loadModel } from "../engine/index.js";
import { loadEmbedder, loadFile, splitDocument } from "../rag/index.js";
import { startServing } from "../test/support/server/serving.js";

const MIB = 2 ** 20;
const LENGTH = 4 * MIB - 4_096; // a request's body may have 4 MiB
const of = (part: string) =>
  part.repeat(Math.ceil(LENGTH / Buffer.byteLength(part) + 1)).slice(0, Math.floor((LENGTH * part.length) / Buffer.byteLength(part)));

const KINDS: Readonly<Record<string, string>> = {
  prose: of("The ferry crosses the river in four minutes. It carries six cars and runs from five in the morning. "),
  "words, no sentence": of("ferry river minutes carries morning "),
  "one word": of("a"),
  "other words": Array.from({ length: LENGTH / 8 }, (_, index) => ((index * 2654435761) % 2 ** 32).toString(36).padEnd(7, "x"))
    .join(" ")
    .slice(0, LENGTH),
  spaces: of(" "),
  "line feeds": of("\n"),
  digits: of("1234567890"),
  signs: of("=-"),
  Chinese: of("渡輪四分鐘就能過河它載六輛車從早上五點開到午夜"),
  "Chinese sentences": of("渡輪四分鐘就能過河。它載六輛車，從早上五點開到午夜。"),
  emoji: of("😀👍🏽"),
  code: of("    for (let i = 0; i < n; i++) {\n        total += values[i];\n    }\n"),
};

const { values: options, positionals: chosen } = parseArgs({
  options: { model: { type: "string" }, passes: { type: "boolean", default: false } },
  allowPositionals: true,
});
const [model, embedder] = await Promise.all([loadModel(options.model === undefined ? {} : { path: options.model }), loadEmbedder()]);
const serving = await startServing({ model, embedder, limits: { body_bytes: 4 * MIB } });
const { tokenizer, card } = model;

/** Processor time of the main thread. */
function cpu_ms(): number {
  return Number(readFileSync("/proc/self/schedstat", "latin1").split(" ")[0]) / 1e6;
}

/** The longest stall (ms) during the work, and the main thread's time for it (s). */
async function stallOf(work: () => Promise<unknown>): Promise<string> {
  await setTimeout(50);
  const start = cpu_ms();
  let [last, longest, own] = [start, 0, 0];
  let next = setImmediate(function turn() {
    const now = cpu_ms();
    longest = Math.max(longest, now - last);
    last = cpu_ms();
    own += last - now;
    next = setImmediate(turn);
  });
  await work();
  await new Promise((done) => setImmediate(done));
  clearImmediate(next);
  return `${longest.toFixed(0)} ms (${((cpu_ms() - start - own) / 1_000).toFixed(1)} s)`;
}

async function sent(path: string, body: object, expected = 400): Promise<string> {
  const json = JSON.stringify(body);
  let status = 0;
  const stall = await stallOf(async () => {
    const response = await fetch(`${serving.url}${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: json });
    status = response.status;
    await response.text();
  });
  return status === expected ? stall : `${stall}, status ${status}`;
}

const user = (content: string) => ({ role: "user", content });
console.log(`Idle: ${await stallOf(() => setTimeout(1_000))}`);
if (!options.passes) await printTexts();
if (!options.passes) await printFiles();
await printPasses();
await serving.stop();
await embedder.close();
await model.close();

async function printTexts(): Promise<void> {
  console.log(
    "\n| 4 MiB of | message refused | old message dropped (with the pass of a short answer) | document refused | embedding refused | chunked |\n|---|---|---|---|---|---|",
  );
  for (const [kind, text] of Object.entries(KINDS).filter(([kind]) => chosen.length === 0 || chosen.includes(kind))) {
    const long = [user(text), { role: "assistant", content: "Yes." }, user("Hi.")];
    const cells = [
      await sent("/v1/chat/completions", { model: model.name, messages: [user(text)] }),
      await sent("/v1/chat/completions", { model: model.name, messages: long, max_tokens: 1 }, 200),
      await sent("/v1/chat/completions", { model: model.name, messages: [user("Hi.")], documents: [{ title: "T", text }] }),
      await sent("/v1/embeddings", { model: "all-MiniLM-L6-v2", input: text }),
      await stallOf(() => splitDocument({ path: "", title: "T", paragraphs: [{ text }] }, { tokenizer, card })),
    ];
    console.log(`| ${kind} | ${cells.join(" | ")} |`);
  }
  console.log(`\n8,000 tokens embedded: ${await stallOf(() => embedder.embed(["ferry ".repeat(8_000)]))}`);
}

/** Files of kinds whose parsers cannot work in steps. */
async function printFiles(): Promise<void> {
  const rows = <T>(row: (index: number) => T) => Array.from({ length: 70_000 }, (_, index) => row(index));
  const prose = KINDS["prose"]!;
  const files: Readonly<Record<string, string>> = {
    "table.csv": ["ferry,minutes,where", ...rows((index) => `Ferry ${index},${index % 7},"Dollis, at the river of that name"`)].join("\n"),
    "lines.jsonl": rows((index) => JSON.stringify({ title: `Ferry ${index}`, text: "It crosses the river." })).join("\n"),
    "object.json": JSON.stringify(
      Object.fromEntries(rows((index) => [`Ferry ${index}`, { minutes: index % 7, where: "Dollis, at the river" }])),
    ),
    "page.md": `# Ferries\n\n${prose.replaceAll(". It", ".\n\nIt")}`,
    "page.txt": prose.replaceAll(". It", ".\n\nIt"),
  };
  console.log("\n| file | MiB | longest stall while it is read | documents |\n|---|---|---|---|");
  for (const [name, text] of Object.entries(files)) {
    let documents = 0;
    const stall = await stallOf(async () => void ({ length: documents } = (await loadFile(name, Buffer.from(text))).documents));
    console.log(`| ${name} | ${(text.length / MIB).toFixed(1)} | ${stall} | ${documents} |`);
  }
}

/** Besides the loop's stall, the longest wait for /healthz by the clock, which includes everything else on the machine. */
async function printPasses(): Promise<void> {
  const words = tokenizer.encode(KINDS["prose"]!.slice(0, 8_000)).slice(0, 1_000);
  const prompt = (tokens: readonly number[]) => model.generate({ pieces: [{ tokens, at: 0 }] }, { maxNewTokens: 1 }).stats;
  const rows: [what: string, work: () => Promise<unknown>][] = [
    ["encodes 256 tokens", () => model.encode({ tokens: words.slice(0, 256) })],
    ["prefills 1,000 tokens", () => prompt(words)],
    ["answers with 30 tokens", () => model.generate({ pieces: [{ tokens: words.slice(0, 20), at: 0 }] }, { maxNewTokens: 30 }).stats],
  ];
  console.log(`\n| while ${model.name} | longest stall | took | /healthz answered | longest wait |\n|---|---|---|---|---|`);
  for (const [what, work] of rows) {
    const start = performance.now();
    let [running, answered, longest] = [true, 0, 0];
    const asking = (async () => {
      while (running) {
        const asked = performance.now();
        await (await fetch(`${serving.url}/healthz`)).text();
        longest = Math.max(longest, performance.now() - asked);
        answered++;
        await setTimeout(5);
      }
    })();
    const stall = await stallOf(() => work().finally(() => (running = false)));
    const took = ((performance.now() - start) / 1_000).toFixed(1);
    await asking;
    console.log(`| ${what} | ${stall} | ${took} s | ${answered} times | ${longest.toFixed(0)} ms |`);
  }
}
