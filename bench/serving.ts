import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import OpenAI from "openai";

/** A server in a process of its own, as its users have it. */
export type Serving = {
  readonly client: OpenAI;
  /** The value of one line of `/metrics`, without its labels' help. */
  metric(name: string): Promise<number>;
  stop(): Promise<void>;
};

export const MODEL = "kvsplice-135m";

/** @param options those of `kvsplice serve`; its log goes nowhere */
export async function startServer(...options: readonly string[]): Promise<Serving> {
  const child = spawn(process.execPath, ["--import", "tsx", "cli/main.ts", "serve", "--port", "0", ...options], { cwd: `${import.meta.dirname}/..`, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let log = "";
  child.stdout.on("data", (part) => (out += part));
  child.stderr.on("data", (part: Buffer) => (log = (log + part).slice(-2_000)));
  while (!out.includes("\n")) {
    if (child.exitCode !== null) throw new Error(`The server did not start: ${log}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
  const url = /http:\/\/\S+/.exec(out)![0];
  return {
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 }),
    async metric(name) {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.slice(name.length + 1));
    },
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
    },
  };
}

export type Timed = {
  readonly text: string;
  readonly first_ms: number;
  /** Mean per token after the first; 0 where there was none. */
  readonly token_ms: number;
  readonly total_ms: number;
  readonly tokens: number;
};

/** Streams one answer and times it as its client sees it. */
export async function timed(client: OpenAI, fields: object, onToken?: () => void): Promise<Timed> {
  const start = performance.now();
  const params = { model: MODEL, stream: true, stream_options: { include_usage: true }, ...fields } as OpenAI.ChatCompletionCreateParamsStreaming;
  let text = "";
  let first = 0;
  let last = 0;
  let tokens = 0;
  for await (const { choices, usage } of await client.chat.completions.create(params)) {
    const content = choices[0]?.delta.content;
    if (content) {
      last = performance.now();
      first ||= last;
      text += content;
      onToken?.();
    }
    tokens = usage?.completion_tokens ?? tokens;
  }
  first ||= performance.now();
  return { text, first_ms: first - start, token_ms: tokens > 1 && last > first ? (last - first) / (tokens - 1) : 0, total_ms: performance.now() - start, tokens };
}

export function questions(): readonly string[] {
  const lines = readFileSync(`${import.meta.dirname}/../examples/questions.jsonl`, "utf8").trim().split("\n");
  return lines.map((line) => (JSON.parse(line) as { question: string }).question);
}

/** @param share 0.5 for the median */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** `--name value` of the command line as a number. */
export function numberOption(name: string, otherwise: number): number {
  const at = process.argv.indexOf(`--${name}`);
  const value = at < 0 ? otherwise : Number(process.argv[at + 1]);
  if (!(value > 0)) throw new Error(`--${name} takes a number above 0.`);
  return value;
}

export function textOption(name: string, otherwise: string): string {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1]!;
}
