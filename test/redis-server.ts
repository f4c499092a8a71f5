import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

import { Redis } from "ioredis";

/** Whether this machine has the server; tests that need one are skipped where it has not. */
export const hasRedis = spawnSync("redis-server", ["--version"]).status === 0;

export type RedisServer = { readonly url: string; readonly process: ChildProcess; stop(): Promise<void> };

/** A Redis of one's own, on loopback, without persistence unless `options` say otherwise; on a free port unless one is given. */
export async function startRedis(options: readonly string[] = [], givenPort?: number): Promise<RedisServer> {
  const port = givenPort ?? (await freePort());
  const dir = mkdtempSync(join(tmpdir(), "kvsplice-redis-"));
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir, ...options];
  const server = spawn("redis-server", args, { stdio: "ignore" });
  const exit = once(server, "exit");
  const url = `redis://127.0.0.1:${port}`;
  await answers(url);
  return {
    url,
    process: server,
    async stop() {
      server.kill("SIGKILL");
      await exit;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

async function answers(url: string): Promise<void> {
  const redis = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
  redis.on("error", () => undefined);
  await Promise.race([redis.ping(), setTimeout(10_000).then(() => Promise.reject(new Error("redis-server did not start")))]);
  redis.disconnect();
}
