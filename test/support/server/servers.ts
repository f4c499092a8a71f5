import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type OpenAI from "openai";
import { freePort, freePorts } from "../redis-server.js";
import type { ServingProcessOptions } from "./serving-process.js";

/** Whether HAProxy is installed. Tests that need it are skipped otherwise. */
export const hasHaproxy = spawnSync("haproxy", ["-v"]).status === 0;

const SERVER = join(import.meta.dirname, "serving-process.ts");
const EXAMPLE = join(import.meta.dirname, "../../../examples/deploy/haproxy.cfg");

/** A server in a separate process, which keeps its ports when it is restarted. */
export class ServerProcess {
  private child: ChildProcess | undefined;
  private constructor(
    readonly port: number,
    readonly agentPort: number,
    private readonly options: ServingProcessOptions,
  ) {}

  /** @param root folder for their stores, kept when they are restarted; by default, new ones each time */
  static async prepare(count: number, options: ServingProcessOptions, root?: string): Promise<ServerProcess[]> {
    const ports = await freePorts(2 * count);
    return Array.from(
      { length: count },
      (_, i) =>
        new ServerProcess(
          ports[2 * i]!,
          ports[2 * i + 1]!,
          root === undefined ? options : { ...options, folder: join(root, `server-${i}`) },
        ),
    );
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get runs(): boolean {
    return this.child?.exitCode === null && this.child.signalCode === null;
  }

  async start(): Promise<this> {
    const options: ServingProcessOptions = { ...this.options, port: this.port, agentPort: this.agentPort };
    const child = spawn(process.execPath, ["--import", "tsx", SERVER, JSON.stringify(options)], { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    let told = "";
    child.stderr.on("data", (part) => (told += part));
    await Promise.race([once(child.stdout, "data"), once(child, "exit").then(() => Promise.reject(new Error(told)))]);
    return this;
  }

  /** Stops it at once, like a power cut. */
  async kill(): Promise<void> {
    if (!this.runs) return;
    this.child!.kill("SIGKILL");
    await once(this.child!, "exit");
  }

  /** Stops it gracefully: it tells load balancers first. */
  async drain(): Promise<void> {
    if (!this.runs) return;
    this.child!.kill("SIGTERM");
    await once(this.child!, "exit");
  }
}

export type Haproxy = { readonly url: string; stop(): Promise<void> };

/** HAProxy with the example configuration in front of these servers; `change` can modify the configuration. */
export async function startHaproxy(
  servers: readonly { readonly port: number; readonly agentPort: number }[],
  change: (config: string) => string = (config) => config,
): Promise<Haproxy> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-haproxy-"));
  const [one, ...more] = servers.map(({ port, agentPort }, i) => `  server s${i} 127.0.0.1:${port} agent-port ${agentPort}\n`);
  const config = readFileSync(EXAMPLE, "utf8")
    .replace("bind :8080", `bind 127.0.0.1:${port}`)
    .replace(/inter 1s/g, "inter 200ms")
    .replace(/ agent-port 8586/, "")
    .replace(/( {2}server .*\n)+/, [one, ...more].join(""));
  const file = join(folder, "haproxy.cfg");
  writeFileSync(file, change(config));
  const child = spawn("haproxy", ["-f", file], { stdio: ["ignore", "ignore", "pipe"] });
  let told = "";
  child.stderr.on("data", (part) => (told += part));
  const url = `http://127.0.0.1:${port}`;
  for (
    let tries = 0;
    !(await fetch(`${url}/healthz`).then(
      ({ ok }) => ok,
      () => false,
    ));
    tries++
  ) {
    if (child.exitCode !== null || tries > 100) throw new Error(`HAProxy did not start: ${told}`);
    await sleep(50);
  }
  return {
    url,
    async stop() {
      child.kill("SIGKILL");
      if (child.exitCode === null) await once(child, "exit");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

type Message = OpenAI.ChatCompletionMessageParam;

/** The answer to a turn of a conversation. */
export type Said = {
  readonly text: string;
  readonly cached_tokens: number;
  readonly elsewhere_tokens: number;
  readonly failures: readonly string[];
};

export type ConverseOptions = {
  readonly turns: number;
  /** Distinguishes its conversation from others. */
  readonly name: string;
  readonly answerTokens?: number;
  readonly model?: string;
  /** Further fields of a turn's request. */
  readonly fields?: (turn: number) => object;
  /** Pause between two turns. */
  readonly pause_ms?: number;
  /** Called after each answered turn. */
  readonly onTurn?: (turn: number) => void;
};

/** A client that repeats each turn until it is answered, and returns the affinity token. */
export async function converse(
  url: string,
  { turns, name, answerTokens = 8, model = "kvsplice-135m", pause_ms = 0, onTurn, fields = () => ({}) }: ConverseOptions,
): Promise<Said[]> {
  const messages: Message[] = [{ role: "system", content: `You are ${name}.` }];
  const said: Said[] = [];
  let affinity: string | undefined;
  for (let turn = 0; turn < turns; turn++) {
    messages.push({ role: "user", content: `What is number ${turn}?` });
    const body = JSON.stringify({ model, messages, max_tokens: answerTokens, user: name, ...fields(turn) });
    const failures: string[] = [];
    for (;;) {
      const headers = { "content-type": "application/json", ...(affinity !== undefined && { "x-kvsplice-affinity": affinity }) };
      const answer = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body })
        .then(async (response) => ({
          status: response.status,
          affinity: response.headers.get("x-kvsplice-affinity"),
          body: (response.ok ? await response.json() : await response.text()) as OpenAI.ChatCompletion & {
            readonly kvsplice: { readonly cached_tokens: number; readonly elsewhere_tokens?: number };
          },
        }))
        .catch((error: unknown) => ({ status: 0, affinity: null, body: error as never }));
      if (answer.status === 200) {
        affinity = answer.affinity ?? affinity;
        const text = answer.body.choices[0]!.message.content!;
        messages.push({ role: "assistant", content: text });
        const { cached_tokens, elsewhere_tokens = 0 } = answer.body.kvsplice;
        said.push({ text, cached_tokens, elsewhere_tokens, failures });
        break;
      }
      failures.push(`${answer.status} ${String(answer.body)}`);
      if (failures.length === 100) throw new Error(`Turn ${turn} of ${name} was not answered: ${failures.at(-1)}`);
      await sleep(100);
    }
    onTurn?.(turn);
    await sleep(pause_ms);
  }
  return said;
}

/** A server's block reads by the tier that had the block. */
export async function reads(url: string): Promise<Record<string, number>> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return Object.fromEntries(
    Array.from(metrics.matchAll(/^kvsplice_block_reads_total\{tier="(\w+)"\} (\d+)/gm), ([, tier, count]) => [tier, Number(count)]),
  );
}
