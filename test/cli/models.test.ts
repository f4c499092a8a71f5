import { spawn } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { open } from "lmdb";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type Checkpoint, writeFolder } from "../support/engine/files/write-folder.js";
import { COMMIT, type Hub, startHub } from "../support/engine/hub/hub-server.js";

/** The installed command; `npm test` builds it first. */
const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

const { families } = JSON.parse(readFileSync(new URL("../golden/folders.json", import.meta.url), "utf8")) as {
  families: Record<string, Checkpoint>;
};

/** The models of these tests' hub. Built graphs are shared between tests. */
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
  const env = {
    PATH: process.env["PATH"],
    HOME: home,
    HF_ENDPOINT: hub.url,
    KVSPLICE_CACHE_DIR: join(shared, "cache"),
    NO_COLOR: "1",
    ...more,
  };
  const child = spawn(process.execPath, [BIN, ...args], { cwd: home, env });
  const out = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) child[stream].setEncoding("utf8").on("data", (text: string) => (out[stream] += text));
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, ...out };
}

const SNAPSHOT = `.cache/huggingface/hub/models--acme--tiny/snapshots/${COMMIT}`;

test("pull downloads a model and prints its path; models lists it; remove removes it", async () => {
  const pulled = await kvsplice(["pull", "hf:acme/tiny"]);
  expect(pulled.stdout).toBe(`${join(home, SNAPSHOT)}\n`);
  expect(pulled.stderr).toMatch(/^Fetching hf:acme\/tiny, \d+(\.\d)? KiB\.\n$/);
  const listed = JSON.parse((await kvsplice(["models", "--json"])).stdout) as { models: { name: string; keeper: string; bytes: number }[] };
  const bytes = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"].reduce(
    (sum, name) => sum + repos["acme/tiny"]![name]!.length,
    0,
  );
  expect(listed.models).toMatchObject([{ name: "hf:acme/tiny", keeper: "hugging face", bytes }]);
  expect((await kvsplice(["models"])).stdout).toMatch(/^hf:acme\/tiny +\d+(\.\d)? KiB {2}Hugging Face cache$/m);
  expect((await kvsplice(["models", "remove", "hf:acme/tiny"])).stdout).toMatch(/^Removed hf:acme\/tiny: /);
  expect(readdirSync(join(home, ".cache/huggingface/hub/models--acme--tiny/blobs"))).toEqual([]);
  expect(await kvsplice(["models", "remove", "hf:acme/tiny"])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("hf:acme/tiny is not on this machine"),
  });
});

test("verify reports a file that changed on disk", async () => {
  await kvsplice(["pull", "hf:acme/tiny"]);
  expect(await kvsplice(["models", "verify", "hf:acme/tiny"])).toMatchObject({ status: 0, stdout: "whole  hf:acme/tiny\n" });
  appendFileSync(realpathSync(join(home, SNAPSHOT, "model.safetensors")), "x");
  const run = await kvsplice(["models", "verify", "--json", "hf:acme/tiny"]);
  expect(JSON.parse(run.stdout)).toEqual({ results: [{ name: "hf:acme/tiny", state: "damaged" }] });
  expect(run).toMatchObject({ status: 1, stderr: expect.stringContaining("kvsplice models remove") });
});

test("a corpus is opened with the model it was made with, and refuses another one by name", async () => {
  const made = await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv", "--model", "hf:acme/tiny", "--quantize", "q4"]);
  expect(made).toMatchObject({
    status: 0,
    stderr: expect.stringMatching(/tiny takes about [\d.]+ [KM]iB of memory, plus [\d.]+ [KM]iB for each 1,000 tokens of a prompt\./),
  });
  hub.requests.length = 0;
  const asked = await kvsplice(["ask", "Where does the ferry cross?", "--store", "ferry.kv", "--json"], {
    KVSPLICE_MODEL: "/nowhere.gguf",
  });
  expect(asked.status).toBe(0);
  expect((JSON.parse(asked.stdout) as { store: { disk: number } }).store.disk).toBeGreaterThan(0);
  expect(hub.requests).toEqual([]);
  writeFolder(join(home, "other"), "llama", families["llama"]!);
  const other = await kvsplice(["ask", "Where?", "--store", "ferry.kv", "--model", "other"]);
  expect(other).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/was made with the model tiny \(\w+\), not with other \(\w+\)/),
  });
  expect(other.stderr).not.toContain("Preparing the model"); // which can take minutes
});

/** The files of a low-rank adapter for the tiny model, as PEFT writes them, by name. */
function adapterFiles(seed: number): Record<string, Buffer> {
  const shapes = { A: [2, 64], B: [64, 2] } as const;
  const data = Object.values(shapes).map((shape, i) =>
    Float32Array.from({ length: shape[0] * shape[1] }, (_, at) => Math.sin(seed + i + at)),
  );
  let at = 0;
  const entries = Object.entries(shapes).map(([factor, shape], i) => [
    `base_model.model.model.layers.0.self_attn.v_proj.lora_${factor}.weight`,
    { dtype: "F32", shape, data_offsets: [at, (at += data[i]!.byteLength)] },
  ]);
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const weights = Buffer.concat([length, header, ...data.map((values) => Buffer.from(values.buffer))]);
  return {
    "adapter_config.json": Buffer.from(JSON.stringify({ peft_type: "LORA", r: 2, lora_alpha: 2, kvsplice_where: "encode" })),
    "adapter_model.safetensors": weights,
  };
}

test("a corpus is opened with the adapters it was made with, with their scales, and refuses others by name", async () => {
  hub.repos["acme/lora"] = adapterFiles(1);
  mkdirSync(join(home, "style"));
  for (const [name, content] of Object.entries(adapterFiles(2))) writeFileSync(join(home, "style", name), content);
  const info = await kvsplice(["adapter", "info", "hf:acme/lora"]);
  expect(info).toMatchObject({ status: 0, stdout: expect.stringContaining("Rank 2, scale 1, on attn_v of 1 layer") });

  const made = await kvsplice([
    "precompute",
    "ferry.md",
    "--store",
    "ferry.kv",
    "--model",
    "hf:acme/tiny",
    "--adapter",
    "hf:acme/lora=0.5",
    "--adapter",
    "style",
  ]);
  expect(made).toMatchObject({ status: 0 });
  hub.requests.length = 0;
  const asked = await kvsplice(["ask", "Where does the ferry cross?", "--store", "ferry.kv", "--json"]);
  expect((JSON.parse(asked.stdout) as { store: { disk: number } }).store.disk).toBeGreaterThan(0);
  expect(hub.requests).toEqual([]);
  for (const others of [
    ["--adapter", "hf:acme/lora"],
    ["--adapter", "hf:acme/lora=0.5"],
    ["--adapter", "style", "--adapter", "hf:acme/lora=0.25"],
  ]) {
    const refused = await kvsplice(["ask", "Where?", "--store", "ferry.kv", ...others]);
    expect(refused).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /was made with the model tiny with (hf:acme\/lora=0\.5 and style|style and hf:acme\/lora=0\.5) \(\w+\), not with tiny with /,
      ),
    });
  }
  rmSync(join(home, "style"), { recursive: true });
  expect(await kvsplice(["ask", "Where?", "--store", "ferry.kv"])).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/made with the adapter .*style, which no longer exists\. Use --adapter/),
  });
});

test("refuses by name an adapter that is missing or is a whole model", async () => {
  const args = ["precompute", "ferry.md", "--store", "ferry.kv", "--model", "hf:acme/tiny", "--adapter"];
  expect(await kvsplice([...args, "hf:acme/nothing"])).toMatchObject({ status: 1, stderr: expect.stringContaining("acme/nothing") });
  expect(await kvsplice([...args, "hf:acme/tiny"])).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/There is no hf:acme\/tiny\. It has no adapter_config\.json/),
  });
  expect(await kvsplice([...args, "nowhere=2"])).toMatchObject({ status: 1, stderr: expect.stringMatching(/nowhere does not exist/) });
  expect(await kvsplice(["precompute", "ferry.md", "--store", "own.kv", "--adapter", "style"])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("Name the model too, with --model"),
  });
});

test("a corpus encoded by an earlier kvsplice is refused before the model's graph is built", async () => {
  const model = join(home, "qwen2");
  writeFolder(model, "qwen2", families["qwen2"]!);
  await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv", "--model", model]);
  const root = open({ path: join(home, "ferry.kv", "corpus.lmdb"), noSubdir: true });
  const meta = root.openDB<{ model: string }, string>({ name: "meta" });
  await meta.put("meta", { ...meta.get("meta")!, model: "e".repeat(64) });
  await root.close();
  const cache = join(home, "empty cache");
  const asked = await kvsplice(["ask", "Where does the ferry cross?", "--store", "ferry.kv"], { KVSPLICE_CACHE_DIR: cache });
  expect(asked).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(
      /was encoded by an older kvsplice or with another file of qwen2.*kvsplice precompute .* --store ferry\.kv\.new --model .*qwen2/,
    ),
  });
  expect(existsSync(join(cache, "graphs"))).toBe(false);
});

test("reports a model that was moved, and the corpus remembers where it is now", async () => {
  mkdirSync(join(home, "models"));
  writeFolder(join(home, "models", "a"), "qwen3", families["qwen3"]!);
  await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv", "--model", "models/a"]);
  writeFolder(join(home, "models", "b"), "qwen3", families["qwen3"]!);
  rmSync(join(home, "models", "a"), { recursive: true });
  const missing = await kvsplice(["store", "verify", "--store", "ferry.kv"]);
  expect(missing).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/was made with a, and .*models\/a no longer exists\. Use --model/),
  });
  expect((await kvsplice(["store", "verify", "--store", "ferry.kv", "--model", "models/b"])).status).toBe(0);
  expect((await kvsplice(["store", "verify", "--store", "ferry.kv"])).status).toBe(0);
});

test("KVSPLICE_MODEL names the model of a new corpus", async () => {
  await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv"], { KVSPLICE_MODEL: "hf:acme/tiny" });
  expect((await kvsplice(["store", "stats", "--store", "ferry.kv"])).stdout).toContain("tokens of tiny.");
  expect(existsSync(join(home, SNAPSHOT))).toBe(true);
});

test("refuses more positions than a model was trained on", async () => {
  const run = await kvsplice(["precompute", "ferry.md", "--store", "ferry.kv", "--model", "hf:acme/tiny", "--context", "4097"]);
  expect(run).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/was trained on 4096 positions, fewer than the 4097 requested/),
  });
});
