import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

let home: string;
let store: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-serve-"));
  store = join(home, "handbook.kv");
  writeFileSync(join(home, "ferry.txt"), "The ferry at Dollis crosses the river Marten in four minutes. It carries six cars.");
  expect(spawnSync(process.execPath, [BIN, "precompute", join(home, "ferry.txt"), "--store", store]).status).toBe(0);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

type Served = { readonly child: ChildProcess; readonly url: string; readonly out: () => string; readonly log: () => string };

async function serve(
  args: readonly string[],
  env: Record<string, string> = {},
  kept: readonly string[] = ["--store", store],
): Promise<Served> {
  const child = spawn(process.execPath, [BIN, "serve", ...kept, "--port", "0", ...args], { env: { ...process.env, ...env } });
  let [out, log] = ["", ""];
  child.stdout.on("data", (part) => (out += part));
  child.stderr.on("data", (part) => (log += part));
  while (!out.includes("\n")) {
    if (child.exitCode !== null) throw new Error(log);
    await new Promise((wake) => setTimeout(wake, 20));
  }
  return { child, url: /http:\/\/[^\s"]+/.exec(out)![0], out: () => out, log: () => log };
}

const hello = {
  model: "kvsplice-135m",
  messages: [{ role: "user" as const, content: "Tell a long story of the sea." }],
  temperature: 1,
  seed: 4,
};

/** A user gets a sentence, never a stack trace. */
function expectRefusal(args: readonly string[], message: RegExp) {
  const run = spawnSync(process.execPath, [BIN, "serve", "--store", store, ...args], {
    encoding: "utf8",
    env: { ...process.env, KVSPLICE_API_KEY: "" },
  });
  expect(run.stderr).toMatch(message);
  expect(run.stderr).not.toMatch(/\n\s+at /);
  expect(run.status).not.toBe(0);
}

describe("serve", () => {
  test("prints in one line where it listens, on loopback, and logs JSON to standard error", async () => {
    const { child, url, out, log } = await serve([]);
    expect(out()).toBe(`kvsplice serves kvsplice-135m and 1 chunk of 'handbook' at ${url}\n`);
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    await fetch(`${url}/v1/models`);
    child.kill("SIGTERM");
    expect((await once(child, "exit"))[0]).toBe(0);
    expect(
      log()
        .trim()
        .split("\n")
        .map((line) => (JSON.parse(line) as { msg: string }).msg),
    ).toEqual(["request", "draining"]);
  });

  test("refuses other addresses without a key, a bad folder, and a context larger than the model's", () => {
    expectRefusal(["--host", "0.0.0.0"], /can be reached from other machines.*KVSPLICE_API_KEY/);
    expectRefusal(["--schemas", join(home, "nowhere")], /nowhere cannot be read.*--schemas/);
    expectRefusal(["--max-context", "99999"], /--max-context is 99999, but the context of kvsplice-135m is 8192/);
    expectRefusal(["--port", "70000"], /whole number from 0 to 65535/);
  });

  test("serves schemas without a store, and reports problems in their folder once", async () => {
    const schemas = join(home, "schemas");
    mkdirSync(schemas);
    writeFileSync(join(schemas, "a.pml"), `<schema name="greet"><user open="true">\n<module name="m">Be brief.</module>\n</user></schema>`);
    writeFileSync(join(schemas, "b.pml"), `<schema name="greet"/>`);
    writeFileSync(join(schemas, "c.pml"), `<schema name="broken"><module></schema>`);
    const { child, url, log } = await serve(["--schemas", schemas], {}, []);
    const ask = () =>
      fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          model: "kvsplice-135m",
          messages: [],
          max_tokens: 1,
          schema: "greet",
          prompt: `<prompt schema="greet">Hello.</prompt>`,
          data: { m: true },
        }),
      });
    expect((await ask()).status).toBe(200);
    expect((await ask()).status).toBe(200);
    child.kill("SIGTERM");
    expect((await once(child, "exit"))[0]).toBe(0);
    const told = log()
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { msg: string }).msg)
      .filter((msg) => msg.includes(".pml"));
    expect(told.toSorted()).toEqual([
      "b.pml and a.pml both define schema 'greet'; the latter is served. Rename one of them.",
      "c.pml:1 has errors and is not served: `<module>` is not closed before `</schema>` [unclosed-element]",
    ]);
    const refused = spawnSync(process.execPath, [BIN, "serve"], { encoding: "utf8" });
    expect(refused.stderr).toMatch(/--store, a folder of PML schemas with --schemas/);
  });

  test("serves several stores as corpora: the first is opened at once, the others on first use", async () => {
    const other = join(home, "mill.kv");
    writeFileSync(join(home, "mill.txt"), "The mill at Oster grinds rye on Mondays.");
    expect(spawnSync(process.execPath, [BIN, "precompute", join(home, "mill.txt"), "--store", other]).status).toBe(0);
    const { child, url, out } = await serve(["--json"], {}, ["--store", store, "--store", other]);
    expect(JSON.parse(out())).toEqual({
      url,
      model: "kvsplice-135m",
      corpus: "handbook",
      chunks: 1,
      offers: ["handbook", "mill"].map((corpus) => ({ model: "kvsplice-135m", corpus, chunks: 1 })),
    });
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual([
      "kvsplice-135m",
      "kvsplice-135m/handbook",
      "kvsplice-135m/mill",
    ]);
    const answer = await client.chat.completions.create({
      model: "kvsplice-135m/mill",
      messages: [{ role: "user", content: "What does the mill grind?" }],
    });
    expect(answer.choices[0]!.message.content).toMatch(/rye/);
    child.kill("SIGTERM");
    expect((await once(child, "exit"))[0]).toBe(0);
    expectRefusal(["--store", join(home, "elsewhere", "handbook.kv")], /Two stores would both be 'kvsplice-135m\/handbook'. Rename one/);
  });

  test("reports that a port is in use", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as { port: number };
    expectRefusal(["--port", String(port)], new RegExp(`Port ${port} of 127\\.0\\.0\\.1 is in use. Choose another with --port`));
    other.close();
  });

  test("requires the key from its environment, and never reveals it; --json prints an object", async () => {
    const { child, url, out, log } = await serve(["--json"], { KVSPLICE_API_KEY: "open sesame" });
    expect(JSON.parse(out())).toEqual({ url, model: "kvsplice-135m", corpus: "handbook", chunks: 1 });
    const ask = (apiKey: string) =>
      new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 }).chat.completions.create({ ...hello, max_tokens: 1 });
    await expect(ask("wrong")).rejects.toMatchObject({ status: 401 });
    expect((await ask("open sesame")).choices).toHaveLength(1);
    child.kill("SIGINT");
    await once(child, "exit");
    expect(out() + log()).not.toContain("sesame");
  });

  test("a signal during an answer stops new requests; the server completes the answer and exits", async () => {
    const { child, url } = await serve([]);
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
    const stream = await client.chat.completions.create({ ...hello, max_tokens: 40, stream: true });
    let chunks = 0;
    let finish: string | null | undefined;
    for await (const { choices } of stream) {
      if (++chunks === 3) child.kill("SIGTERM");
      finish = choices[0]?.finish_reason ?? finish;
    }
    expect(finish).toMatch(/^(stop|length)$/);
    expect(child.exitCode ?? (await once(child, "exit"))[0]).toBe(0);
    await expect(client.models.list()).rejects.toThrow();
  });

  test("a second signal stops it at once", async () => {
    const { child, url, log } = await serve([]);
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
    const stream = await client.chat.completions.create({ ...hello, max_tokens: 4000, stream: true });
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    child.kill("SIGTERM");
    while (!log().includes("draining")) await once(child.stderr!, "data");
    child.kill("SIGTERM");
    expect(await once(child, "exit")).toEqual([null, "SIGTERM"]);
  });
});
