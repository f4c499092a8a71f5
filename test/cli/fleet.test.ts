import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { freePort, hasRedis, type RedisServer, startRedis } from "../support/redis-server.js";

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const FILES = 10;

let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-fleet-"));
  mkdirSync(join(home, "docs"));
  for (let i = 0; i < FILES; i++)
    writeFileSync(join(home, "docs", `${i}.md`), `# Topic ${i}\n\n${`Statement ${i} of the topic tells the number ${i * 11}. `.repeat(6)}`);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

function kvsplice(...args: string[]): { child: ChildProcess; stdout: () => string; stderr: () => string; end: Promise<number | null> } {
  const child = spawn(process.execPath, [BIN, ...args], { cwd: home });
  onTestFinished(() => void child.kill("SIGKILL"));
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (part) => (stdout += part));
  child.stderr.on("data", (part) => (stderr += part));
  return { child, stdout: () => stdout, stderr: () => stderr, end: once(child, "close").then(([code]) => code as number | null) };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((wake) => setTimeout(wake, 20));
}

describe.skipIf(!hasRedis)("precompute --queue and worker (skipped if redis-server is not installed)", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  test("two workers encode a corpus although one is killed; then all chunks are on this machine's disk", async () => {
    const precompute = kvsplice("precompute", "docs", "--store", "store", "--queue", redis.url, "--json");
    const [first, second] = [1, 2].map(() => kvsplice("worker", "--queue", redis.url, "--lock", "2", "--json"));
    await until(() => first!.stdout() !== "" && second!.stdout() !== "");
    first!.child.kill("SIGKILL");
    expect(await precompute.end).toBe(0);
    expect(JSON.parse(precompute.stdout())).toMatchObject({ files: FILES, chunks: FILES, encoded: FILES, problems: [] });

    second!.child.kill("SIGINT");
    expect(await second!.end).toBe(0);
    expect(second!.stderr()).toMatch(/Finishing the current jobs/);

    const verified = kvsplice("store", "verify", "--store", "store", "--json");
    expect(await verified.end).toBe(0);
    expect(JSON.parse(verified.stdout())).toMatchObject({ blocks: FILES, chunks: FILES, damaged: [], missing: [], records: [] });
    const again = kvsplice("precompute", "docs", "--store", "store", "--json");
    expect(await again.end).toBe(0);
    expect(JSON.parse(again.stdout())).toMatchObject({ unchanged: FILES, encoded: 0 });
  });

  test("Ctrl-C stops precompute and leaves no job behind; the next run finds what the workers encoded", async () => {
    const worker = kvsplice("worker", "--queue", redis.url, "--precision", "float16", "--json");
    await until(() => worker.stderr().includes("Waiting for jobs"));
    const run = () => kvsplice("precompute", "docs", "--store", "other", "--queue", redis.url, "--precision", "float16", "--json");
    const precompute = run();
    await until(() => worker.stdout().split("\n").length > 3);
    precompute.child.kill("SIGINT");
    expect(await precompute.end).toBe(130);
    expect(precompute.stderr()).toMatch(/Cancelled. What was stored is kept./);
    const next = run();
    expect(await next.end).toBe(0);
    const { chunks, encoded } = JSON.parse(next.stdout()) as { chunks: number; encoded: number };
    expect(chunks).toBe(FILES);
    expect(encoded).toBeLessThanOrEqual(FILES - 3);
  });
});

test("precompute and worker report at once that no Redis answers", async () => {
  const url = `redis://127.0.0.1:${await freePort()}`;
  for (const args of [
    ["precompute", "docs", "--store", "none", "--queue", url],
    ["worker", "--queue", url],
  ]) {
    const run = spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8", cwd: home });
    expect(run.stderr).toMatch(/No Redis answers at redis:\/\/127.0.0.1:\d+.*start one there/);
    expect(run.stderr).not.toMatch(/\n\s+at /);
    expect(run.status).toBe(1);
  }
});

test("worker needs a queue, and its help has examples", () => {
  const run = (...args: string[]) => spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8", cwd: home });
  expect(run("worker").stderr).toMatch(/--queue/);
  expect(run("worker", "--help").stdout).toMatch(/Examples:\n {2}\$ kvsplice/);
});
