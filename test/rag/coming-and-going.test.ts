import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { open } from "lmdb";
import { describe, expect, onTestFinished, test } from "vitest";

import { Chunks, type Corpus, openCorpus, removeFromCorpus, watchFiles } from "../../rag/index.js";
import { fakeEmbedder, fakeModel, memoryStore } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

/** `home/docs` with files, and a corpus in `home/kv`. */
async function setUp(files: Readonly<Record<string, string>>) {
  const home = await mkdtemp(join(await temporaryFolder(), "home-"));
  const docs = join(home, "docs");
  const [model, store, embedder] = [fakeModel(), memoryStore(), fakeEmbedder()];
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(docs, name)), { recursive: true });
    await writeFile(join(docs, name), text);
  };
  for (const [name, text] of Object.entries(files)) await write(name, text);
  const openIn = async (dir: string) => {
    const corpus = await openCorpus(dir, { model, store, embedder, create: true });
    onTestFinished(() => corpus.close());
    return corpus;
  };
  return { home, docs, dir: join(home, "kv"), model, store, embedder, write, openIn, corpus: await openIn(join(home, "kv")) };
}

const FILES = {
  "roofs/copper.md": "# Copper\n\nIt turns green.",
  "roofs/slate.md": "# Slate\n\nIt stays grey.",
  "ferry.md": "# Ferry\n\nIt crosses.",
};
const pathsOf = (corpus: Corpus) => Array.from(corpus.files(), ({ path }) => path);

describe("names that no longer exist on disk", () => {
  test("a known file or folder is removed from the corpus, and the other names are read", async () => {
    const { corpus, docs, store, write } = await setUp(FILES);
    await corpus.precompute([docs]);
    await rm(join(docs, "ferry.md"));
    await rm(join(docs, "roofs"), { recursive: true });
    await write("owl.md", "# Owl\n\nIt hunts.");
    const report = await corpus.precompute([join(docs, "owl.md"), join(docs, "ferry.md"), join(docs, "roofs")]);
    expect(report).toMatchObject({ files: 1, encoded: 1, removed: 3, chunks: 1 });
    expect(pathsOf(corpus)).toEqual([join(docs, "owl.md")]);
    expect(store.blocks.size).toBe(1);
  });

  test("an unknown one is an error, and nothing is changed", async () => {
    const { corpus, docs } = await setUp(FILES);
    await corpus.precompute([docs]);
    await rm(join(docs, "ferry.md"));
    await expect(corpus.precompute([join(docs, "ferry.md"), join(docs, "fery.md")])).rejects.toMatchObject({ code: "bad_file" });
    expect(pathsOf(corpus)).toHaveLength(3);
  });
});

describe("moved files", () => {
  test("a moved folder keeps its chunks: nothing is embedded or encoded, and nothing is duplicated", async () => {
    const { corpus, docs, embedder, model } = await setUp(FILES);
    await corpus.precompute([docs]);
    const [embedded, encoded] = [embedder.embedded.length, model.encoded.length];
    await rename(join(docs, "roofs"), join(docs, "all-roofs"));
    expect(await corpus.precompute([join(docs, "all-roofs")])).toMatchObject({
      files: 2,
      moved: 2,
      unchanged: 2,
      encoded: 0,
      removed: 0,
      chunks: 3,
    });
    expect([embedder.embedded.length, model.encoded.length]).toEqual([embedded, encoded]);
    expect(pathsOf(corpus)).toEqual(["all-roofs/copper.md", "all-roofs/slate.md", "ferry.md"].map((name) => join(docs, name)));
    expect(corpus.chunk("copper.md")).toMatchObject({ path: join(docs, "all-roofs/copper.md"), text: "It turns green." });
    expect((await corpus.retrieve("turns green", { topK: 1 }))[0]).toMatchObject({
      path: join(docs, "all-roofs/copper.md"),
      ref: "copper.md#1",
    });
  });

  test("a copy is not a move, and neither is a file that was changed on the way", async () => {
    const { corpus, docs, write } = await setUp(FILES);
    await corpus.precompute([docs]);
    await write("copy/copper.md", FILES["roofs/copper.md"]);
    await rename(join(docs, "ferry.md"), join(docs, "copy/ferry.md"));
    await write("copy/ferry.md", "# Ferry\n\nIt sank.");
    expect(await corpus.precompute([join(docs, "copy")])).toMatchObject({ files: 2, moved: 0, unchanged: 0, chunks: 5 });
  });

  test("a corpus can be moved together with its documents", async () => {
    const { home, docs, corpus, openIn } = await setUp(FILES);
    await corpus.precompute([docs]);
    await corpus.close();
    const elsewhere = `${home}-elsewhere`;
    await rename(home, elsewhere);
    const moved = await openIn(join(elsewhere, "kv"));
    expect(pathsOf(moved)).toEqual(["ferry.md", "roofs/copper.md", "roofs/slate.md"].map((name) => join(elsewhere, "docs", name)));
    expect(await moved.precompute([join(elsewhere, "docs")])).toMatchObject({ files: 3, unchanged: 3, moved: 0, encoded: 0, chunks: 3 });
  });

  test("a corpus with absolute paths, from an older version, is updated when it is opened", async () => {
    const { docs, dir, corpus, openIn } = await setUp({ ...FILES, "bad.jsonl": '{"text":"Good."}\nbad' });
    await corpus.precompute([docs]);
    const before = [...corpus.chunks()];
    await corpus.close();
    const root = open({ path: join(dir, "corpus.lmdb"), noSubdir: true });
    const [meta, files, chunks] = ["meta", "files", "chunks"].map((name) => root.openDB<Record<string, unknown>>({ name })) as [
      ReturnType<typeof root.openDB<Record<string, unknown>>>,
      ReturnType<typeof root.openDB<Record<string, unknown>>>,
      ReturnType<typeof root.openDB<Record<string, unknown>>>,
    ];
    root.transactionSync(() => {
      for (const { key, value } of [...files.getRange()]) {
        expect(value["path"]).toMatch(/^docs\//);
        files.removeSync(key);
        files.putSync(`old-${String(value["path"])}`, { ...value, path: join(dirname(dir), String(value["path"])) });
      }
      for (const { key, value } of [...chunks.getRange()])
        chunks.putSync(key, { ...value, path: join(dirname(dir), String(value["path"])) });
      meta.putSync("meta", { ...meta.get("meta"), format: 2 });
    });
    await root.close();
    const again = await openIn(dir);
    expect([...again.chunks()]).toEqual(before);
    const report = await again.precompute([docs]);
    expect(report).toMatchObject({ files: 4, unchanged: 4, encoded: 0, chunks: 4 });
    expect(report.problems).toMatchObject([{ path: join(docs, "bad.jsonl"), line: 2 }]);
  });
});

describe("removing documents", () => {
  test("by file, by folder, and by the end of a path, whether on disk or not, along with their blocks", async () => {
    const { corpus, docs, store } = await setUp(FILES);
    await corpus.precompute([docs]);
    await rm(join(docs, "roofs"), { recursive: true });
    expect(await corpus.remove([join(docs, "roofs")])).toMatchObject({ removed: 2, files: 1, chunks: 1 });
    expect(await corpus.remove(["ferry.md"])).toEqual({ removed: 1, files: 0, chunks: 0, tokens: 0 });
    expect(store.blocks.size).toBe(0);
  });

  test("without a model", async () => {
    const { corpus, docs, dir, store } = await setUp(FILES);
    await corpus.precompute([docs]);
    expect(await removeFromCorpus(dir, store, ["copper.md"])).toMatchObject({ removed: 1, files: 2, chunks: 2 });
    const chunks = await Chunks.open(dir);
    expect(Array.from(chunks.files(), ({ name, chunks }) => [name, chunks])).toEqual([
      ["ferry.md", 1],
      ["slate.md", 1],
    ]);
    await chunks.close();
    await expect(removeFromCorpus(join(dir, "nowhere"), store, ["x"])).rejects.toMatchObject({ code: "bad_store" });
  });

  test("an unknown name is an error that suggests what was likely meant, and nothing is removed", async () => {
    const { corpus, docs } = await setUp(FILES);
    await corpus.precompute([docs]);
    await expect(corpus.remove(["ferry.md", "coper.md"])).rejects.toMatchObject({
      code: "unknown_document",
      message: expect.stringContaining("`copper.md`"),
    });
    expect(pathsOf(corpus)).toHaveLength(3);
  });

  test("pruning leaves only the named files in a corpus", async () => {
    const { corpus, docs } = await setUp(FILES);
    await corpus.precompute([docs]);
    expect(await corpus.precompute([join(docs, "ferry.md")], { prune: true })).toMatchObject({ removed: 2, chunks: 1 });
    expect(pathsOf(corpus)).toEqual([join(docs, "ferry.md")]);
  });
});

test("a corpus without chunks accepts any writer; one with chunks refuses others", async () => {
  const { corpus, docs, dir, store, embedder } = await setUp(FILES);
  const other = { model: fakeModel({ id: "e".repeat(64), name: "other", precision: "int8" }), store, embedder, create: true };
  const second = await openCorpus(dir, other);
  onTestFinished(() => second.close());
  await expect(corpus.precompute([docs])).rejects.toMatchObject({ code: "bad_store", message: expect.stringContaining("another model") });
  expect(await second.precompute([docs])).toMatchObject({ chunks: 3 });
  await expect(openCorpus(dir, { ...other, model: fakeModel() })).rejects.toMatchObject({
    code: "bad_store",
    message: expect.stringContaining("with the model other"),
  });
});

describe("an estimate", () => {
  test("reports what a precompute would do, and changes nothing", async () => {
    const { corpus, docs, store, write } = await setUp({ ...FILES, "empty.md": "", "a.png": "x" });
    const estimate = await corpus.estimate([docs]);
    expect(estimate).toMatchObject({
      files: 4,
      changed: 4,
      refused: 1,
      chunks: 3,
      passedOver: { ".png": 1 },
      problems: [{ path: join(docs, "empty.md") }],
    });
    expect(estimate.bytes).toBeGreaterThan(0);
    expect(estimate.seconds).toBeGreaterThan(0);
    expect([corpus.totals.files, store.blocks.size]).toEqual([0, 0]);
    const report = await corpus.precompute([docs]);
    expect([report.chunks, report.tokens]).toEqual([estimate.chunks, estimate.tokens]);
    await write("owl.md", "# Owl\n\nIt hunts.");
    expect(await corpus.estimate([docs])).toMatchObject({ files: 5, changed: 1, chunks: 1 });
  });
});

describe("watching", () => {
  test("a corpus follows its folder until the watch ends", async () => {
    const { corpus, docs, write } = await setUp(FILES);
    const stop = new AbortController();
    const runs: (() => void)[] = [];
    const next = () => new Promise<void>((resolve) => runs.push(resolve));
    const begun = next();
    const watching = watchFiles([docs], {
      signal: stop.signal,
      onChange: async () => {
        await corpus.precompute([docs]);
        runs.shift()?.();
      },
    });
    await begun;
    expect(pathsOf(corpus)).toHaveLength(3);
    for (const [change, texts] of [
      [() => write("more/owl.md", "# Owl\n\nIt hunts."), ["It crosses.", "It hunts.", "It turns green.", "It stays grey."]],
      [() => write("ferry.md", "# Ferry\n\nIt sank."), ["It sank.", "It hunts.", "It turns green.", "It stays grey."]],
      [() => rm(join(docs, "roofs"), { recursive: true }), ["It sank.", "It hunts."]],
    ] as const) {
      const changed = next();
      await change();
      await changed;
      expect(Array.from(corpus.chunks(), ({ text }) => text)).toEqual(texts);
    }
    stop.abort();
    await watching;
  });
});
