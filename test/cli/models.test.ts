import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type Checkpoint, writeFolder } from "../engine/files/write-folder.js";
import { COMMIT, type Hub, startHub } from "../engine/hub/hub-server.js";

/** The command as it is installed; `npm test` builds it first. */
const BIN = new URL("../../dist/cli/main.js", import.meta.url).pathname;

const { families } = JSON.parse(readFileSync(new URL("../golden/folders.json", import.meta.url), "utf8")) as { families: Record<string, Checkpoint> };

/** What the hub of these tests has; built graphs are shared between them. */
const shared = mkdtempSync(join(tmpdir(), "kvsplice-models-shared-"));
afterAll(() => rmSync(shared, { recursive: true, force: true }));

let repos: Hub["repos"];
beforeAll(() => {
  const folder = join(shared, "tiny");
  const { config, tensors } = families["qwen3"]!;
  writeFolder(folder, "qwen3", { config: { ...config, max_position_embeddings: 4096 }, tensors });
  const files = Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
  repos = { "acme/tiny": files };
});

let hub: Hub;
let home: string;
beforeEach(async () => {
  hub = await startHub(repos);
  home = mkdtempSync(join(tmpdir(), "kvsplice-models-"));
  writeFileSync(join(home, "ferry.md"), "# Ferry\n\nThe ferry at Dollis crosses the river Marten in four minutes.");
});
afterEach(async () => {
  await hub.close();
  rmSync(home, { recursive: true, force: true });
});

type Run = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

async function kvsplice(args: readonly string[], more: Readonly<Record<string, string>> = {}): Promise<Run> {
  const env = { PATH: process.env["PATH"], HOME: home, HF_ENDPOINT: hub.url, KVSPLICE_CACHE_DIR: join(shared, "cache"), NO_COLOR: "1", ...more };
  const child = spawn(process.execPath, [BIN, ...args], { cwd: home, env });
  const out = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) child[stream].setEncoding("utf8").on("data", (text: string) => (out[stream] += text));
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, ...out };
}

const SNAPSHOT = `.cache/huggingface/hub/models--acme--tiny/snapshots/${COMMIT}`;

test("pull fetches a model and prints where it lies; models lists it; remove removes it", async () => {
  const pulled = await kvsplice(["pull", "hf:acme/tiny"]);
  expect(pulled.stdout).toBe(`${join(home, SNAPSHOT)}\n`);
  expect(pulled.stderr).toMatch(/^Fetching hf:acme\/tiny, \d+(\.\d)? KB\.\n$/);
  const listed = JSON.parse((await kvsplice(["models", "--json"])).stdout) as { models: { name: string; keeper: string; bytes: number }[] };
  const bytes = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"].reduce((sum, name) => sum + repos["acme/tiny"]![name]!.length, 0);
  expect(listed.models).toMatchObject([{ name: "hf:acme/tiny", keeper: "hugging face", bytes }]);
  expect((await kvsplice(["models"])).stdout).toMatch(/^hf:acme\/tiny +\d+(\.\d)? KB {2}Hugging Face's cache$/m);
  expect((await kvsplice(["models", "remove", "hf:acme/tiny"])).stdout).toMatch(/^Removed hf:acme\/tiny: /);
  expect(readdirSync(join(home, ".cache/huggingface/hub/models--acme--tiny/blobs"))).toEqual([]);
  expect(await kvsplice(["models", "remove", "hf:acme/tiny"])).toMatchObject({ status: 1, stderr: expect.stringContaining("There is no hf:acme/tiny on this machine") });
});

test("verify tells a file that changed on disk", async () => {
  await kvsplice(["pull", "hf:acme/tiny"]);
  expect(await kvsplice(["models", "verify", "hf:acme/tiny"])).toMatchObject({ status: 0, stdout: "whole  hf:acme/tiny\n" });
  appendFileSync(realpathSync(join(home, SNAPSHOT, "model.safetensors")), "x");
  const run = await kvsplice(["models", "verify", "--json", "hf:acme/tiny"]);
  expect(JSON.parse(run.stdout)).toEqual({ results: [{ name: "hf:acme/tiny", state: "damaged" }] });
  expect(run).toMatchObject({ status: 1, stderr: expect.stringContaining("kvsplice models remove") });
});

test("a corpus is opened with the model that it was made with, and refuses another by name", async () => {
  const made = await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv", "--model", "hf:acme/tiny", "--quantize", "q4"]);
  expect(made).toMatchObject({ status: 0, stderr: expect.stringMatching(/tiny takes some [\d.]+ [KM]B of memory, and [\d.]+ [KM]B for each 1,000 tokens of a prompt\./) });
  hub.requests.length = 0;
  const asked = await kvsplice(["ask", "Where does the ferry cross?", "--store", "ferry.kv", "--json"], { KVSPLICE_MODEL: "/nowhere.gguf" });
  expect(asked.status).toBe(0);
  expect((JSON.parse(asked.stdout) as { store: { disk: number } }).store.disk).toBeGreaterThan(0);
  expect(hub.requests).toEqual([]);
  writeFolder(join(home, "other"), "llama", families["llama"]!);
  const other = await kvsplice(["ask", "Where?", "--store", "ferry.kv", "--model", "other"]);
  expect(other).toMatchObject({ status: 1, stderr: expect.stringMatching(/was written by the model tiny \(\w+\), not by other \(\w+\)/) });
});

test("a model that was moved away is told, and a corpus remembers where it is now", async () => {
  mkdirSync(join(home, "models"));
  writeFolder(join(home, "models", "a"), "qwen3", families["qwen3"]!);
  await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv", "--model", "models/a"]);
  writeFolder(join(home, "models", "b"), "qwen3", families["qwen3"]!);
  rmSync(join(home, "models", "a"), { recursive: true });
  const missing = await kvsplice(["store", "verify", "--store", "ferry.kv"]);
  expect(missing).toMatchObject({ status: 1, stderr: expect.stringMatching(/was made with a, and .*models\/a is not there any more\. Say with --model/) });
  expect((await kvsplice(["store", "verify", "--store", "ferry.kv", "--model", "models/b"])).status).toBe(0);
  expect((await kvsplice(["store", "verify", "--store", "ferry.kv"])).status).toBe(0);
});

test("KVSPLICE_MODEL names the model of a new corpus", async () => {
  await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv"], { KVSPLICE_MODEL: "hf:acme/tiny" });
  expect((await kvsplice(["store", "stats", "--store", "ferry.kv"])).stdout).toContain("tokens of tiny.");
  expect(existsSync(join(home, SNAPSHOT))).toBe(true);
});

test("more positions than a model was trained on are refused", async () => {
  const run = await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv", "--model", "hf:acme/tiny", "--context", "4097"]);
  expect(run).toMatchObject({ status: 1, stderr: expect.stringMatching(/was trained on 4096 positions; ask for as many, or for fewer than 4097/) });
});
