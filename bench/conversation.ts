/**
 * A conversation of many turns in a small context: what each turn computes, and that time per token and memory stay constant.
 *
 *     npx tsx bench/conversation.ts --turns 200 --context 2048
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import { MODEL, numberOption, questions, startServer } from "./serving.js";

type Turn = OpenAI.ChatCompletion & {
  readonly kvsplice: {
    readonly cached_tokens: number;
    readonly computed_tokens: number;
    readonly dropped_exchanges: number;
    readonly first_token_ms: number;
    readonly per_token_ms: number;
    readonly splice_ms: number;
  };
};

const turns = numberOption("turns", 200);
const context = numberOption("context", 2048);
const ROWS = 20;

const store = mkdtempSync(join(tmpdir(), "kvsplice-conversation-"));
const server = await startServer("--store", store, "--max-context", String(context));
try {
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    { role: "system", content: "You are a friendly guide to engineering and nature. Answer in one or two sentences." },
  ];
  const asked = questions();
  const rows: Record<string, string | number>[] = [];
  const all: { turn: number; per_token_ms: number; first_token_ms: number; rss: number }[] = [];
  for (let turn = 1; turn <= turns; turn++) {
    messages.push({ role: "user", content: asked[turn % asked.length]! });
    const answer = (await server.client.chat.completions.create({ model: MODEL, messages, max_tokens: 48 })) as Turn;
    const { message } = answer.choices[0]!;
    messages.push(message);
    const { cached_tokens, computed_tokens, dropped_exchanges, first_token_ms, per_token_ms, splice_ms } = answer.kvsplice;
    const rss = (await server.metric("process_resident_memory_bytes")) / 2 ** 20;
    all.push({ turn, per_token_ms, first_token_ms, rss });
    if (turn <= 2 || turn % Math.ceil(turns / ROWS) === 0) {
      rows.push({
        turn,
        tokens: answer.usage!.prompt_tokens,
        cached: cached_tokens,
        computed: computed_tokens,
        "turns dropped": dropped_exchanges,
        "splice ms": splice_ms.toFixed(0),
        "first token ms": first_token_ms.toFixed(0),
        "ms per token": per_token_ms.toFixed(1),
        "RSS MiB": rss.toFixed(0),
        answer: message.content!.slice(0, 60),
      });
    }
  }
  console.table(rows);
  const quarter = Math.floor(turns / 4);
  const mean = (part: typeof all, field: "per_token_ms" | "first_token_ms" | "rss") =>
    part.reduce((sum, each) => sum + each[field], 0) / part.length;
  for (const [name, part] of [
    ["second", all.slice(quarter, 2 * quarter)],
    ["last", all.slice(-quarter)],
  ] as const) {
    console.log(
      `${name} quarter: ${mean(part, "first_token_ms").toFixed(0)} ms to the first token, ${mean(part, "per_token_ms").toFixed(1)} ms per token, RSS ${mean(part, "rss").toFixed(0)} MiB (means)`,
    );
  }
} finally {
  await server.stop();
  rmSync(store, { recursive: true, force: true });
}
