import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import OpenAI from "openai";

/** A server in a separate process, as users run it. */
export type Serving = {
  readonly url: string;
  readonly client: OpenAI;
  /** The value of one line of `/metrics`, without labels. */
  metric(name: string): Promise<number>;
  stop(): Promise<void>;
};

export const MODEL = "kvsplice-135m";

/** @param options those of `kvsplice serve`; its log is discarded */
export async function startServer(...options: readonly string[]): Promise<Serving> {
  return startServerOn(undefined, ...options);
}

/** @param cores that it may use, as `taskset` names them, such as "0-3"; all of them when left out */
export async function startServerOn(cores: string | undefined, ...options: readonly string[]): Promise<Serving> {
  const { child, said: url } = await startCommand(cores, /(http:\/\/\S+)\n/, "serve", "--port", "0", ...options);
  return {
    url,
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 }),
    async metric(name) {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${name} `))
          ?.slice(name.length + 1),
      );
    },
    stop: () => endOf(child),
  };
}

/** A worker on a Redis server's queue, in a separate process. */
export async function startWorkerOn(cores: string | undefined, queue: string): Promise<{ stop(): Promise<void> }> {
  const { child } = await startCommand(cores, /(Waiting for jobs)/, "worker", "--queue", queue);
  return { stop: () => endOf(child) };
}

/** Runs a kvsplice command until it prints something. */
async function startCommand(
  cores: string | undefined,
  until: RegExp,
  ...args: readonly string[]
): Promise<{ readonly child: ChildProcess; readonly said: string }> {
  const command = [process.execPath, "--import", "tsx", "cli/main.ts", ...args];
  const [program, ...rest] = cores === undefined ? command : ["taskset", "-c", cores, ...command];
  const child = spawn(program!, rest, { cwd: `${import.meta.dirname}/..`, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part: Buffer) => (out = (out + part).slice(-2_000)));
  for (;;) {
    const said = until.exec(out)?.[1];
    if (said !== undefined) return { child, said };
    if (child.exitCode !== null) throw new Error(`kvsplice ${args[0]} did not start: ${out}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

async function endOf(child: ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  if (child.exitCode === null) await once(child, "exit");
}

export type Timed = {
  readonly text: string;
  readonly first_ms: number;
  /** Mean per token after the first; 0 if there was none. */
  readonly token_ms: number;
  readonly total_ms: number;
  readonly tokens: number;
};

/** Streams one answer and times it as the client sees it. */
export async function timed(client: OpenAI, fields: object, onToken?: () => void): Promise<Timed> {
  const start = performance.now();
  const params = {
    model: MODEL,
    stream: true,
    stream_options: { include_usage: true },
    ...fields,
  } as OpenAI.ChatCompletionCreateParamsStreaming;
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
  return {
    text,
    first_ms: first - start,
    token_ms: tokens > 1 && last > first ? (last - first) / (tokens - 1) : 0,
    total_ms: performance.now() - start,
    tokens,
  };
}

export function questions(): readonly string[] {
  const lines = readFileSync(`${import.meta.dirname}/../examples/questions.jsonl`, "utf8")
    .trim()
    .split("\n");
  return lines.map((line) => (JSON.parse(line) as { question: string }).question);
}

/** @param share 0.5 for the median */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** `--name value` of the command line, as a number. */
export function numberOption(name: string, otherwise: number): number {
  const at = process.argv.indexOf(`--${name}`);
  const value = at < 0 ? otherwise : Number(process.argv[at + 1]);
  if (!(value > 0)) throw new Error(`--${name} takes a number greater than 0.`);
  return value;
}

export function textOption(name: string, otherwise: string): string {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1]!;
}
