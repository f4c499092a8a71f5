/**
 * A server with users who ask, chat, hang up and send nonsense, for minutes: memory stays constant, and no request gets stuck.
 *
 *     npx tsx cli/main.ts precompute examples/corpus --store .kvsplice/load.kv
 *     npx tsx bench/soak.ts --minutes 10
 */
import type OpenAI from "openai";
import { MODEL, numberOption, questions, startServer, textOption, timed } from "./serving.js";

const minutes = numberOption("minutes", 10);
const USERS = 6;
const REPORT_s = 30;
/** Far longer than four answers under this load: anything longer is stuck. */
const STUCK_ms = 300_000;

// Small budgets, which are full after a minute: later growth is not from caches.
const BUDGETS = ["--memory", "64MB", "--chat-tokens", "5000", "--max-context", "2048"];
const server = await startServer("--store", textOption("store", ".kvsplice/load.kv"), ...BUDGETS);
const asked = questions();
const counts = { asked: 0, chats: 0, "hung up": 0, refused: 0 };
let next = 0;
let slowest_ms = 0;
const end = performance.now() + minutes * 60_000;

const kinds = [
  async function asks() {
    await timed(server.client, { messages: [{ role: "user", content: asked[next++ % asked.length] }], corpus: { documents: 5 } });
    counts.asked++;
  },
  async function chats() {
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "system", content: `You are guide number ${next++}.` }];
    for (let turn = 0; turn < 4 && performance.now() < end; turn++) {
      messages.push({ role: "user", content: asked[(next + turn) % asked.length]! });
      const { text } = await timed(server.client, { messages, max_tokens: 24, temperature: 0.7 });
      messages.push({ role: "assistant", content: text });
    }
    counts.chats++;
  },
  async function hangsUp() {
    const stream = await server.client.chat.completions.create({
      model: MODEL,
      messages: [{ role: "user", content: `Write a very long story, number ${next++}.` }],
      max_tokens: 400,
      stream: true,
    });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 5) break;
    counts["hung up"]++;
  },
  async function refused() {
    const nonsense = [
      { messages: "none" },
      { messages: [], schema: "none", prompt: "<x/>" },
      { messages: [{ role: "user", content: "word ".repeat(3000) }] },
      { documents: ["none.md"], messages: [{ role: "user", content: "a" }] },
    ];
    await timed(server.client, nonsense[next++ % nonsense.length]!).catch(() => counts.refused++);
  },
];

const user = async (seed: number) => {
  for (let turn = seed; performance.now() < end; turn++) {
    const start = performance.now();
    const done = kinds[turn % kinds.length]!();
    await Promise.race([done, new Promise((_, reject) => setTimeout(() => reject(new Error("A request is stuck.")), STUCK_ms).unref())]);
    slowest_ms = Math.max(slowest_ms, performance.now() - start);
  }
};

const rss: number[] = [];
const watch = setInterval(() => void report(), REPORT_s * 1000);
async function report(): Promise<void> {
  rss.push((await server.metric("process_resident_memory_bytes")) / 2 ** 20);
  console.log(
    `${Math.round((rss.length * REPORT_s) / 6) / 10} min: RSS ${rss.at(-1)!.toFixed(0)} MiB, waiting ${await server.metric("kvsplice_waiting_answers")}, batch ${await server.metric("kvsplice_batch_size")}, ${JSON.stringify(counts)}`,
  );
}
try {
  await Promise.all(Array.from({ length: USERS }, (_, seed) => user(seed)));
  clearInterval(watch);
  await new Promise((wake) => setTimeout(wake, 1000));
  const stuck = (await server.metric("kvsplice_waiting_answers")) + (await server.metric("kvsplice_batch_size"));
  const mean = (part: readonly number[]) => part.reduce((sum, each) => sum + each, 0) / part.length;
  const third = Math.max(1, Math.floor(rss.length / 3));
  console.log(
    `Stuck: ${stuck}. Slowest: ${(slowest_ms / 1000).toFixed(1)} s (a chat of four turns counts as one). KV kept for conversations: ${await server.metric("kvsplice_conversation_tokens")} tokens.`,
  );
  if (rss.length >= 3)
    console.log(
      `RSS, mean of the middle third ${mean(rss.slice(third, 2 * third)).toFixed(0)} MiB, of the last ${mean(rss.slice(-third)).toFixed(0)} MiB.`,
    );
  if (stuck > 0) process.exitCode = 1;
} finally {
  clearInterval(watch);
  await server.stop();
}
