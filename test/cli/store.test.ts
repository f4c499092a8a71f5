import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { open } from "lmdb";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

import { loadModel, openDiskStore } from "../../engine/index.js";
import { allocateBlock } from "../../engine/kv/block.js";
import { openCorpus } from "../../rag/index.js";
import { kvspliceIn } from "../support/cli/in-process.js";

vi.mock("../../engine/index.js", async (original) => (await import("../support/cli/shared-models.js")).withSharedModels(await original()));
vi.mock("../../rag/embed/load.js", async (original) =>
  (await import("../support/cli/shared-models.js")).withSharedEmbedders(await original()),
);

const ARTICLES = {
  "lighthouse.md":
    "# Brenna Point\n\nThe lighthouse on Brenna Point was lit for the first time in October 1871. Its first keeper, Oda Halvorsen, kept a diary of every ship that passed for twenty-two years.",
  "ferry.txt":
    "Marten ferry\n\nThe ferry at Dollis crosses the river Marten in four minutes. It carries six cars and runs from five in the morning until midnight.",
};
const QUESTION = "Who was the first keeper of the lighthouse on Brenna Point?";

let home: string;
let store: string;

const kvsplice = (...args: string[]) => kvspliceIn(home, args);

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-store-"));
  store = join(home, "store");
  mkdirSync(join(home, "docs"));
  for (const [name, text] of Object.entries(ARTICLES)) writeFileSync(join(home, "docs", name), text);
  expect((await kvsplice("precompute", "docs", "--store", store)).status).toBe(0);
  expect((await kvsplice("ask", QUESTION, "--store", store)).stdout).toMatch(/^Oda Halvorsen\n/);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe("export and import", () => {
  test("moves a corpus to another machine as one file, where it answers the same without encoding", async () => {
    const exported = await kvsplice("store", "export", "out.safetensors", "--store", store, "--json");
    expect(JSON.parse(exported.stdout)).toMatchObject({ paths: ["out.safetensors"], files: 2, chunks: 2, blocks: 3 });
    const imported = await kvsplice("store", "import", "out.safetensors", "--store", "there", "--json");
    expect(JSON.parse(imported.stdout)).toMatchObject({ blocks: 3, imported: 3, files: 2, chunks: 2 });

    const model = await loadModel();
    const corpus = await openCorpus(join(home, "there"), { model });
    try {
      const answer = await corpus.ask(QUESTION);
      let text = "";
      for await (const token of answer) text += token.text;
      expect(text).toBe("Oda Halvorsen");
      expect((await answer.stats).encoded_tokens).toBe(0);
    } finally {
      await corpus.close();
      await model.close();
    }
  });

  test("refuses a damaged file with advice, and creates no corpus", async () => {
    const bytes = readFileSync(join(home, "out.safetensors"));
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(join(home, "bad.safetensors"), bytes);
    const run = await kvsplice("store", "import", "bad.safetensors", "--store", "nowhere");
    expect(run.stderr).toMatch(/bad\.safetensors is damaged \(the checksum of block \w{12} is wrong\); copy or export it again/);
    expect(run.stderr).not.toMatch(/\n\s+at /);
    expect(run.status).toBe(1);
    expect((await kvsplice("ask", QUESTION, "--store", "nowhere")).stderr).toMatch(/no documents yet/);
  });
});

describe("stats, verify and gc", () => {
  test("stats shows blocks by tier, model and precision, and the reads of all processes", async () => {
    const stats = JSON.parse((await kvsplice("store", "stats", "--store", store, "--json")).stdout) as {
      blocks: object[];
      ever: Record<string, number>;
    };
    expect(stats).toMatchObject({ corpus: { files: 2, chunks: 2, modelName: "kvsplice-135m" }, pending: 0 });
    expect(stats.blocks).toEqual([expect.objectContaining({ tier: "disk", model: "kvsplice-135m", precision: "int8", blocks: 3 })]);
    // ask read two chunks and missed the system prompt; export read all three, the first of them twice.
    expect(stats.ever).toEqual({ memory: 1, disk: 5, redis: 0, objects: 0, misses: 1 });
    expect((await kvsplice("store", "stats", "--store", store)).stdout).toMatch(/disk +kvsplice-135m +int8 +3/);
  });

  test("gc removes a block that no chunk uses, but not in a dry run", async () => {
    const blocks = openDiskStore(store);
    await blocks.put("ab".repeat(32), allocateBlock([{ heads: 1, headSize: 4 }], 2));
    await blocks.close();
    const gc = async (...args: string[]) =>
      JSON.parse((await kvsplice("store", "gc", "--store", store, "--json", ...args)).stdout) as object;
    expect(await gc("--dry-run")).toMatchObject({ unreferenced: 1, removed: 1 });
    expect(await gc("--older-than", "1d")).toMatchObject({ unreferenced: 1, removed: 0 });
    expect(await gc()).toMatchObject({ unreferenced: 1, removed: 1 });
    expect(await gc()).toMatchObject({ unreferenced: 0, removed: 0 });
    for (const args of [
      ["--older-than", "1y"],
      ["--budget", "much"],
    ])
      expect((await kvsplice("store", "gc", "--store", store, ...args)).status).toBe(1);
  });

  test("verify exits with 1 on damage; repair removes it, and precompute computes it again", async () => {
    expect((await kvsplice("store", "verify", "--store", store)).status).toBe(0);
    const root = open({ path: join(store, "blocks.lmdb"), noSubdir: true });
    const table = root.openDB<Buffer, string>({ name: "blocks", encoding: "binary" });
    const [key] = [...table.getKeys()];
    const bytes = Buffer.from(table.get(key!)!);
    bytes[bytes.length >> 1]! ^= 1;
    await table.put(key!, bytes);
    await root.close();

    const found = await kvsplice("store", "verify", "--store", store);
    expect(found.stdout).toMatch(new RegExp(`damaged block ${key!.slice(0, 12)} in disk`));
    expect(found.status).toBe(1);
    expect((await kvsplice("store", "verify", "--store", store, "--repair")).status).toBe(0);
    await kvsplice("precompute", "docs", "--store", store);
    const after = await kvsplice("store", "verify", "--store", store);
    expect(after.stdout).toMatch(/0 blocks damaged, 0 missing/);
    expect(after.status).toBe(0);
  });
});

test("--help of every command shows examples", async () => {
  for (const command of ["", "stats", "verify", "gc", "export", "import"].map((name) => ["store", name].filter(Boolean))) {
    expect((await kvsplice(...command, "--help")).stdout).toMatch(/Examples:\n {2}\$ kvsplice/);
  }
});
