import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startRedis } from "../redis-server.js";
import { startFakeServing } from "./fake-serving.js";
import { converse, ServerProcess, startHaproxy } from "./servers.js";
import { remove } from "./serving.js";

export type FaultRun = {
  readonly conversations: number;
  readonly turns: number;
  /** Interval at which a server or a worker is killed and restarted at once. */
  readonly every_ms: number;
  /** Pause between two turns of a conversation. */
  readonly pause_ms: number;
  /** A bucket as the servers' last tier. */
  readonly objects?: { readonly url: string; readonly endpoint: string } | undefined;
};

export type FaultResult = {
  readonly turns: number;
  /** Turns with the same text as from a single server without faults. */
  readonly equal: number;
  readonly killedServers: number;
  readonly killedWorkers: number;
  /** Requests that clients had to repeat, in addition to the proxy's. */
  readonly askedAgain: number;
  /** Tokens of documents that workers encoded. */
  readonly elsewhere: number;
};

const WORKER = join(import.meta.dirname, "../fleet/wordy-worker-process.ts");
const SERVERS = 3;
const WORKERS = 2;
const PREFIX = "kvsplice:";

class WorkerProcess {
  private child: ChildProcess | undefined;
  constructor(private readonly url: string) {}

  async start(): Promise<void> {
    this.child = spawn(process.execPath, ["--import", "tsx", WORKER, this.url, PREFIX], { stdio: ["ignore", "pipe", "ignore"] });
    await Promise.race([once(this.child.stdout!, "data"), once(this.child, "exit")]);
  }

  async kill(): Promise<void> {
    if (!this.child || this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill("SIGKILL");
    await once(this.child, "exit");
  }
}

/** Every third turn includes a new document. */
function documentsOf(name: string, turn: number): object {
  if (turn % 3 !== 1) return {};
  return {
    documents: [
      { title: `${name} ${turn}`, text: Array.from({ length: 30 }, (_, i) => `In year ${i} ${name} wrote of ${turn}.`).join(" ") },
    ],
  };
}

/**
 * Runs three servers behind HAProxy, Redis and two workers as separate processes on this machine. A server or a worker is
 * repeatedly killed (SIGKILL) during conversations. Compares every turn with that of a single server that is never killed.
 */
export async function runWithFaults({ conversations, turns, every_ms, pause_ms, objects }: FaultRun): Promise<FaultResult> {
  const names = Array.from({ length: conversations }, (_, i) => `keeper ${i}`);
  const alone = await startFakeServing();
  const expected = await Promise.all(names.map((name) => converse(alone.url, { turns, name, fields: (turn) => documentsOf(name, turn) })));
  await alone.stop();
  remove(alone.folder);

  const root = mkdtempSync(join(tmpdir(), "kvsplice-faults-"));
  const redis = await startRedis();
  const servers = await ServerProcess.prepare(
    SERVERS,
    { redis: redis.url, encodeQueue: redis.url, pass_ms: 2, ...(objects && { objects }) },
    root,
  );
  const workers = Array.from({ length: WORKERS }, () => new WorkerProcess(redis.url));
  await Promise.all([...servers, ...workers].map((each) => each.start()));
  const proxy = await startHaproxy(servers);
  const killed = { servers: 0, workers: 0 };
  const over = new AbortController();
  const faults = (async () => {
    const starting: Promise<unknown>[] = [];
    const victims = [servers[0]!, workers[0]!, servers[1]!, workers[1]!, servers[2]!];
    for (let i = 0; ; i++) {
      await sleep(every_ms, undefined, { signal: over.signal }).catch(() => undefined);
      if (over.signal.aborted) return void (await Promise.all(starting));
      const victim = victims[i % victims.length]!;
      await victim.kill();
      killed[victim instanceof ServerProcess ? "servers" : "workers"]++;
      starting.push(victim.start().catch(() => undefined)); // it may be killed before it is ready
    }
  })();
  try {
    const said = await Promise.all(
      names.map((name) => converse(proxy.url, { turns, name, pause_ms, fields: (turn) => documentsOf(name, turn) })),
    );
    over.abort();
    await faults;
    const all = said.flatMap((each, i) => each.map((turn, t) => ({ ...turn, expected: expected[i]![t]!.text })));
    return {
      turns: all.length,
      equal: all.filter(({ text, expected }) => text === expected).length,
      killedServers: killed.servers,
      killedWorkers: killed.workers,
      askedAgain: all.reduce((sum, { failures }) => sum + failures.length, 0),
      elsewhere: all.reduce((sum, { elsewhere_tokens }) => sum + elsewhere_tokens, 0),
    };
  } finally {
    over.abort();
    await faults;
    await proxy.stop();
    for (const each of [...servers, ...workers]) await each.kill();
    await redis.stop();
    rmSync(root, { recursive: true, force: true });
  }
}
