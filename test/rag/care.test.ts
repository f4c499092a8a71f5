import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { open } from "lmdb";
import { expect, onTestFinished, test } from "vitest";

import { type BlockInfo, type BlockKey, decodeSafetensors, encodeSafetensors, type StoredTier } from "../../engine/index.js";
import { openCorpus } from "../../rag/index.js";
import { fakeEmbedder, fakeModel, memoryStore } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

const FILES = 5;
const DAY_MS = 86_400_000;

/** A tier of files in memory, which tests damage and age. */
function tierOf(files: Map<BlockKey, Buffer>, ages: Map<BlockKey, Partial<BlockInfo>> = new Map()): StoredTier {
  return {
    name: "disk",
    bytes: async () => [...files.values()].reduce((sum, file) => sum + file.length, 0),
    async *infos() {
      for (const [key, file] of files) {
        yield {
          key,
          bytes: file.length,
          tokens: 1,
          precision: "float32",
          model: "fake",
          cost_ms: 1,
          pinned: false,
          uses: 0,
          used_ms: Date.now(),
          ...ages.get(key),
        };
      }
    },
    read: async (key) => files.get(key),
    verify: async (key) => (files.has(key) ? decodeSafetensors(key, files.get(key)!) !== undefined : undefined),
    delete: async (keys) => keys.forEach((key) => files.delete(key)),
  };
}

async function setUp() {
  const root = await temporaryFolder();
  const [dir, docs] = [join(root, "store"), join(root, "docs")];
  await mkdir(docs);
  for (let file = 0; file < FILES; file++) await writeFile(join(docs, `${file}.md`), `# File ${file}\n\nText ${file} of several.`);
  const store = memoryStore();
  const model = fakeModel();
  const openOne = async () => {
    const corpus = await openCorpus(dir, { model, store, embedder: fakeEmbedder(), create: true });
    onTestFinished(() => corpus.close());
    return corpus;
  };
  const corpus = await openOne();
  await corpus.precompute([docs]);
  const files = new Map([...store.blocks].map(([key, block]) => [key, Buffer.concat(encodeSafetensors(key, block))]));
  const keys = [...files.keys()];
  return { dir, docs, corpus, openOne, store, files, keys, tier: tierOf(files) };
}

test("an intact store verifies", async () => {
  const { corpus, tier } = await setUp();
  expect(await corpus.verify([tier])).toEqual({ blocks: FILES, chunks: FILES, damaged: [], missing: [], records: [], repaired: false });
});

test("finds a block with one flipped bit, and reports its chunk's block as missing; repair removes it", async () => {
  const { corpus, files, keys, tier } = await setUp();
  files.get(keys[1]!)![200]! ^= 1;
  const found = { damaged: [{ key: keys[1]!, tier: "disk" }], missing: [{ key: keys[1]! }] };
  expect(await corpus.verify([tier])).toMatchObject({ ...found, repaired: false });
  expect(files.size).toBe(FILES);
  expect(await corpus.verify([tier], { repair: true })).toMatchObject({ ...found, repaired: true });
  expect([...files.keys()]).toEqual(keys.filter((key) => key !== keys[1]));
});

test("reports a block under another block's key as damaged", async () => {
  const { corpus, files, keys, tier } = await setUp();
  files.set(keys[0]!, files.get(keys[1]!)!);
  expect(await corpus.verify([tier])).toMatchObject({ damaged: [{ key: keys[0]! }] });
});

test("a block that is intact in one tier is not missing, whatever the other tier has", async () => {
  const { corpus, files, keys, tier } = await setUp();
  const other = { ...tierOf(new Map(files)), name: "redis" as const };
  files.set(keys[0]!, Buffer.from("nothing of it"));
  files.delete(keys[1]!);
  expect(await corpus.verify([tier, other])).toMatchObject({
    damaged: [{ key: keys[0]!, tier: "disk" }],
    missing: [],
    blocks: 2 * FILES - 1,
  });
});

test("reports a chunk without a block with its file", async () => {
  const { docs, corpus, files, keys, tier } = await setUp();
  files.delete(keys[2]!);
  expect(await corpus.verify([tier])).toMatchObject({
    damaged: [],
    missing: [{ key: keys[2], path: join(docs, "2.md"), title: "File 2" }],
  });
});

test.each([
  ["a missing chunk", /chunk \d+ is missing/, "chunks", undefined],
  [
    "tokens that are another chunk's",
    /key of its chunk \d+ does not match its tokens/,
    "chunks",
    (chunk: { tokens: number[] }) => ({ ...chunk, tokens: [1, 2, 3] }),
  ],
  ["a missing vector", /vector of its chunk \d+ is missing/, "vectors", undefined],
  ["a vector of the wrong length", /vector of its chunk \d+ is missing or has the wrong length/, "vectors", () => Buffer.alloc(8)],
])("finds %s; repair drops the file's record, and the next precompute reads the file again", async (_, reason, name, change) => {
  const { dir, docs, corpus, openOne, tier } = await setUp();
  await corpus.close();
  const root = open({ path: join(dir, "corpus.lmdb"), noSubdir: true });
  const table = root.openDB<unknown, number>({ name, ...(name === "vectors" && { encoding: "binary" }) });
  const [id] = [...table.getKeys()];
  if (change === undefined) await table.remove(id!);
  else await table.put(id!, change(table.get(id!) as { tokens: number[] }));
  await root.close();

  const again = await openOne();
  expect(await again.verify([tier])).toMatchObject({ damaged: [], records: [{ reason: expect.stringMatching(reason) }] });
  await again.verify([tier], { repair: true });
  expect(await again.precompute([docs])).toMatchObject({ files: FILES, unchanged: FILES - 1, chunks: FILES });
  expect(await again.verify([tier])).toMatchObject({ damaged: [], missing: [], records: [] });
});

/** The store of `setUp` with three blocks that nothing refers to, unused for 1, 10 and 100 days. */
async function setUpGarbage() {
  const { corpus, files, keys } = await setUp();
  const size = files.get(keys[0]!)!.length;
  const ages = new Map<BlockKey, Partial<BlockInfo>>();
  for (const days of [10, 100, 1]) {
    files.set(`unused ${days}`, Buffer.alloc(size));
    ages.set(`unused ${days}`, { used_ms: Date.now() - days * DAY_MS });
  }
  for (const key of keys) ages.set(key, { used_ms: 0 });
  const left = () => [...files.keys()].filter((key) => key.startsWith("unused")).sort();
  return { corpus, files, keys, ages, size, left, tier: tierOf(files, ages) };
}

test("gc removes what no chunk refers to, and nothing else", async () => {
  const { corpus, files, keys, tier, size } = await setUpGarbage();
  expect(await corpus.collect(tier)).toMatchObject({ unreferenced: 3, removed: 3, removed_bytes: 3 * size });
  expect([...files.keys()]).toEqual(keys);
});

test("gc by age removes what was unused for that long", async () => {
  const { corpus, left, tier } = await setUpGarbage();
  expect(await corpus.collect(tier, { olderThan_ms: 5 * DAY_MS })).toMatchObject({ unreferenced: 3, removed: 2 });
  expect(left()).toEqual(["unused 1"]);
});

test("gc down to a budget removes the least recently used first, and stops there", async () => {
  const { corpus, left, size, tier } = await setUpGarbage();
  const before = await tier.bytes();
  expect(await corpus.collect(tier, { budget_bytes: before - size - 1 })).toMatchObject({
    removed: 2,
    before_bytes: before,
    after_bytes: before - 2 * size,
  });
  expect(left()).toEqual(["unused 1"]);
  expect(await corpus.collect(tier, { budget_bytes: 0 })).toMatchObject({ removed: 1, after_bytes: before - 3 * size });
});

test("a dry run reports the same and removes nothing", async () => {
  const { corpus, files, size, tier } = await setUpGarbage();
  expect(await corpus.collect(tier, { dryRun: true })).toMatchObject({
    unreferenced: 3,
    removed: 3,
    removed_bytes: 3 * size,
    after_bytes: await tier.bytes(),
  });
  expect(files.size).toBe(FILES + 3);
});

test("a pin protects a block from eviction but not from gc: blocks pinned by an abandoned run would stay forever", async () => {
  const { corpus, files, keys, ages, tier } = await setUpGarbage();
  ages.set("unused 100", { used_ms: 0, pinned: true });
  await corpus.collect(tier);
  expect([...files.keys()]).toEqual(keys);
});
