import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

import { Redis } from "ioredis";

/** Whether redis-server is installed. Tests that need it are skipped otherwise. */
export const hasRedis = spawnSync("redis-server", ["--version"]).status === 0;

export type RedisServer = { readonly url: string; readonly process: ChildProcess; stop(): Promise<void> };

/** Starts a separate Redis on loopback, without persistence unless `options` set it, on a free port unless one is given. */
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
  const [port] = await freePorts(1);
  return port!;
}

/** This many free ports, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  for (const server of servers) server.close();
  await Promise.all(servers.map((server) => once(server, "close")));
  return ports;
}

async function answers(url: string): Promise<void> {
  const redis = new Redis(url, { retryStrategy: () => 20, maxRetriesPerRequest: null });
  redis.on("error", () => undefined);
  await Promise.race([redis.ping(), setTimeout(10_000).then(() => Promise.reject(new Error("redis-server did not start")))]);
  redis.disconnect();
}
