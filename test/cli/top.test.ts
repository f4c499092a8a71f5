import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parsePrometheusText } from "../../cli/prometheus-text.js";
import { type NoReading, readServers, type ServerReading } from "../../cli/server-reading.js";
import { kvspliceIn } from "../support/cli/in-process.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove } from "../support/server/serving.js";

const KEY = "alpha";

let serving: Awaited<ReturnType<typeof startFakeServing>>;
let hold: Promise<void> | undefined;
/** An address where nothing listens any more. */
let nobody: string;
beforeAll(async () => {
  const left = await listening();
  nobody = left.url;
  await left.close();
  serving = await startFakeServing({
    apiKeys: [KEY],
    goals: { firstToken_ms: 60_000, token_ms: 60_000 },
    limits: { queue: 10 },
    before: () => hold,
  });
});
afterAll(async () => {
  await serving.stop();
  remove(serving.folder);
});

/** A program that is not kvsplice. */
async function listening(): Promise<{ readonly url: string; close(): Promise<void> }> {
  const server = createServer((_, response) => void response.end("<html>")).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      await once(server, "close");
    },
  };
}

const ask = (content: string) =>
  serving.client.chat.completions.create({ model: serving.model.name, messages: [{ role: "user", content }], max_tokens: 4 });
const top = (...args: string[]) => kvspliceIn(process.cwd(), ["top", ...args]);
const onceAsJson = async (...args: string[]) => {
  const run = await top(...args, "--once", "--json");
  return { ...run, servers: (JSON.parse(run.stdout) as { servers: (ServerReading & NoReading)[] }).servers };
};

test("one reading shows what a server computed since its start, and that it is idle", async () => {
  await ask("Hello");
  const { status, servers } = await onceAsJson(serving.url, "--api-key", KEY);
  expect(status).toBe(0);
  expect(servers).toEqual([
    expect.objectContaining({
      address: serving.url,
      status: "up",
      waiting: 0,
      queue: 10,
      running: 0,
      queued: 0,
      workers: 0,
      jobs: 0,
      goodput: 1,
      tokens_per_s: null,
    }),
  ]);
  expect(servers[0]!.first_token_ms).toBeGreaterThan(0);
});

test("shows what waits while it waits", async () => {
  let go = () => {};
  hold = new Promise((resolve) => (go = resolve));
  const answers = ["One", "Two"].map(ask);
  await expect.poll(async () => (await onceAsJson(serving.url, "--api-key", KEY)).servers[0]).toMatchObject({ waiting: 2, running: 2 });
  hold = undefined;
  go();
  await Promise.all(answers);
});

test("a later reading covers the time since the one before", async () => {
  const done = new AbortController();
  const readings = readServers([`${serving.url}/`], { apiKey: KEY, interval_ms: 10, signal: done.signal });
  const next = async () => ((await readings.next()).value as ServerReading[])[0]!;
  await ask("Hello again");
  expect(await next()).toMatchObject({ address: serving.url, goodput: 1, tokens_per_s: null });
  expect(await next()).toMatchObject({ first_token_ms: null, tokens_per_s: 0, cached: null, goodput: null });
  const { usage } = await ask("A question that nobody asked before");
  const { cached, tokens_per_s, goodput } = await next();
  expect({ cached, goodput }).toEqual({ cached: usage!.prompt_tokens_details!.cached_tokens! / usage!.prompt_tokens, goodput: 1 });
  expect(tokens_per_s).toBeGreaterThan(0);
  done.abort();
  expect((await readings.next()).done).toBe(true);
});

test("prints one row per server, in columns with titles, without cursor movements if there is no terminal", async () => {
  const { stdout } = await top(serving.url, serving.url, "--api-key", KEY, "--once");
  const [titles, ...rows] = stdout.trimEnd().split("\n");
  expect(titles!.trim().split(/ {2,}/)).toEqual([
    "server",
    "status",
    "weight",
    "running",
    "queued",
    "waiting",
    "first token",
    "tokens/s",
    "cached",
    "memory",
    "goodput",
    "workers",
    "jobs",
  ]);
  expect(rows).toHaveLength(2);
  for (const row of rows) {
    expect(row.trim().split(/ {2,}/).slice(0, 2)).toEqual([serving.url, "up"]);
    expect(row.length).toBe(titles!.length);
  }
  expect(stdout).not.toContain("\u001b");
});

test("reports a server that does not answer along with those that do, and --once fails", async () => {
  const { status, servers, stderr } = await onceAsJson(nobody, serving.url, "--api-key", KEY);
  expect(servers).toEqual([
    { address: nobody, error: "does not answer (ECONNREFUSED); is kvsplice serve running there?" },
    expect.objectContaining({ status: "up" }),
  ]);
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `error: ${nobody} does not answer (ECONNREFUSED); is kvsplice serve running there?\n`,
  });
  expect((await top(nobody, "--once")).stdout).toContain(`${nobody}  does not answer`);
});

test("reports a missing key, a wrong key, another program and an invalid address", async () => {
  expect((await top(serving.url, "--once")).stderr).toContain("requires a key; set KVSPLICE_API_KEY");
  expect((await top(serving.url, "--once", "--api-key", "beta")).stderr).toContain("refuses this key");
  const other = await listening();
  expect((await top(other.url, "--once")).stderr).toContain("answers, but not like kvsplice serve");
  await other.close();
  for (const address of ["localhost:8585", "ftp://host", "http://"])
    expect(await top(address, "--once")).toMatchObject({
      status: 1,
      stderr: `error: ${address} is not a server's address. Give one like http://localhost:8585.\n`,
    });
  expect((await top("--interval", "0")).stderr).toContain("Give a whole number, 1 or more.");
});

test("parses metrics with labels in any order, escaped quotes and values of any form", () => {
  const text = '# HELP a Says "a".\n# TYPE a counter\na{x="1",y="a \\" } b"} 3\nb 1.5e3\nc{le="+Inf"} +Inf 1700000000\n\n';
  expect(parsePrometheusText(text)).toEqual([
    { name: "a", labels: { x: "1", y: 'a \\" } b' }, value: 3 },
    { name: "b", labels: {}, value: 1500 },
    { name: "c", labels: { le: "+Inf" }, value: NaN },
  ]);
});

test("--help has examples", async () => {
  expect((await top("--help")).stdout).toMatch(/Examples:\n {2}\$ kvsplice top/);
});
