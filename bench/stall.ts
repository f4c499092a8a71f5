/**
 * How long the event loop stands still while 4 MiB of text are refused by the server, split into chunks, and read for
 * embedding: the longest that another client, or a signal, waits. Times are the processor's (of the main thread, by Linux's
 * /proc), so that other work on the machine does not count. The server and its clients are this one process.
 *
 *     npx tsx bench/stall.ts [KIND...]
 */
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { loadModel } from "../engine/index.js";
import { loadEmbedder, splitDocument } from "../rag/index.js";
import { startServing } from "../test/server/serving.js";

const MIB = 2 ** 20;
const LENGTH = 4 * MIB - 4_096; // a request's body holds 4 MiB
const of = (part: string) => part.repeat(Math.ceil(LENGTH / Buffer.byteLength(part) + 1)).slice(0, Math.floor((LENGTH * part.length) / Buffer.byteLength(part)));

const KINDS: Readonly<Record<string, string>> = {
  prose: of("The ferry crosses the river in four minutes. It carries six cars and runs from five in the morning. "),
  "words, no sentence": of("ferry river minutes carries morning "),
  "one word": of("a"),
  "other words": Array.from({ length: LENGTH / 8 }, (_, index) => (index * 2654435761 % 2 ** 32).toString(36).padEnd(7, "x")).join(" ").slice(0, LENGTH),
  spaces: of(" "),
  "line feeds": of("\n"),
  digits: of("1234567890"),
  signs: of("=-"),
  Chinese: of("渡輪四分鐘就能過河它載六輛車從早上五點開到午夜"),
  "Chinese sentences": of("渡輪四分鐘就能過河。它載六輛車，從早上五點開到午夜。"),
  emoji: of("😀👍🏽"),
  code: of("    for (let i = 0; i < n; i++) {\n        total += values[i];\n    }\n"),
};

const [model, embedder] = await Promise.all([loadModel(), loadEmbedder()]);
const serving = await startServing({ model, embedder, limits: { body_bytes: 4 * MIB } });
const { tokenizer, card } = model;

/** Time that the main thread has had of a processor. */
function cpu_ms(): number {
  return Number(readFileSync("/proc/self/schedstat", "latin1").split(" ")[0]) / 1e6;
}

/** The longest stall (ms) in what is done, and the time that the main thread worked for it (s). */
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

const chosen = process.argv.slice(2);
const user = (content: string) => ({ role: "user", content });
console.log(`Idle: ${await stallOf(() => setTimeout(1_000))}\n`);
console.log("| 4 MiB of | message refused | old message dropped (with the pass of a short answer) | document refused | embedding refused | chunked |\n|---|---|---|---|---|---|");
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
await serving.stop();
await embedder.close();
await model.close();
