/**
 * A polite client's first token, alone, alongside one other request, and alongside a greedy client that sends 50 requests at
 * once; without and with `--fair`. Each question is a new chat of some 150 tokens with an answer of 64; the others have begun
 * when the polite one asks, and are hung up on when it has its first token.
 *
 *     npx tsx bench/fairness.ts [--runs 5] [--greedy 50]
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MODEL, numberOption, quantile, type Serving, startServer } from "./serving.js";

const runs = numberOption("runs", 5);
const greedy = numberOption("greedy", 50);

/** Allowed first-token time alongside the greedy client, relative to that alongside one other client. */
const BOUND = 1.5;
const KEYS = { polite: "polite-key", other: "other-key", greedy: "greedy-key" };
/** Time after which the others' prompts are being computed. */
const BEGUN_ms = 400;
const WORDS = ["keeper", "harbour", "lamp", "winter", "letter", "rope", "island", "captain", "morning", "storm", "road", "clock"];

let asked = 0;
/** A question that nobody has asked before. */
function question(): string {
  asked++;
  return `Go on with this list, number ${asked}: ${Array.from({ length: 120 }, (_, i) => WORDS[(asked * 7 + i * i + (i >> 3) * asked) % WORDS.length]).join(" ")}`;
}

async function ask(url: string, key: string, signal: AbortSignal): Promise<Response> {
  const body = JSON.stringify({ model: MODEL, messages: [{ role: "user", content: question() }], max_tokens: 64, stream: true });
  const headers = { "content-type": "application/json", authorization: `Bearer ${key}` };
  const response = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body, signal });
  if (!response.ok) throw new Error(await response.text());
  return response;
}

/** Until the first word of the answer. */
async function firstToken(url: string, key: string): Promise<number> {
  const leave = new AbortController();
  const start = performance.now();
  let said = "";
  for await (const part of (await ask(url, key, leave.signal)).body!.pipeThrough(new TextDecoderStream())) {
    said += part;
    if (/"content":"[^"]/.test(said)) break;
  }
  const took_ms = performance.now() - start;
  leave.abort();
  return took_ms;
}

async function politeBeside(server: Serving, others: readonly string[]): Promise<number> {
  const leave = new AbortController();
  const asking = others.map((key) =>
    ask(server.url, key, leave.signal)
      .then((response) => response.text())
      .catch(() => undefined),
  );
  await sleep(BEGUN_ms);
  const took_ms = await firstToken(server.url, KEYS.polite);
  leave.abort();
  await Promise.all(asking);
  await idle(server.url);
  return took_ms;
}

/** Resolves when the server has noticed that everyone has disconnected. */
async function idle(url: string): Promise<void> {
  for (;;) {
    const { running, waiting } = (await (await fetch(`${url}/internal/load`)).json()) as {
      readonly running: number;
      readonly waiting: number;
    };
    if (running + waiting === 0) return;
    await sleep(20);
  }
}

const BESIDE = {
  alone: [],
  "alongside one other": [KEYS.other],
  [`alongside ${greedy} of one client`]: Array<string>(greedy).fill(KEYS.greedy),
};

const folder = mkdtempSync(join(tmpdir(), "kvsplice-fairness-"));
const keysFile = join(folder, "keys.json");
writeFileSync(keysFile, JSON.stringify(Object.values(KEYS).map((key) => ({ key }))));
console.log(`${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}; median of ${runs} (slowest in brackets), ms\n`);
console.log(`| | ${Object.keys(BESIDE).join(" | ")} | the last / the one before (bound ${BOUND}) |\n|---|---|---|---|---|`);
try {
  for (const fair of [false, true]) {
    const options = ["--store", join(folder, String(fair)), "--api-keys", keysFile, ...(fair ? ["--fair"] : [])];
    const server = await startServer(...options);
    try {
      await politeBeside(server, [KEYS.other]); // opens what two requests at once need
      const times: number[][] = Object.keys(BESIDE).map(() => []);
      for (let run = 0; run < runs; run++) {
        for (const [i, others] of Object.values(BESIDE).entries()) times[i]!.push(await politeBeside(server, others));
      }
      const medians = times.map((each) => quantile(each, 0.5));
      const cells = times.map((each, i) => `${medians[i]!.toFixed(0)} (${Math.max(...each).toFixed(0)})`);
      console.log(
        `| ${fair ? "`--fair`" : "first come, first served"} | ${cells.join(" | ")} | ${(medians[2]! / medians[1]!).toFixed(2)} |`,
      );
    } finally {
      await server.stop();
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
