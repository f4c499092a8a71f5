import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { chmod, mkdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { open } from "lmdb";
import { describe, expect, onTestFinished, test } from "vitest";

import { isBlockPiece, KvspliceError } from "../../engine/index.js";
import type { BlockEncoder } from "../../rag/corpus/block-encoder.js";
import { type Corpus, openCorpus, type Progress, peekCorpus } from "../../rag/index.js";
import { fakeEmbedder, fakeModel, memoryStore } from "../support/rag/fakes.js";
import { makePdf } from "../support/rag/make-pdf.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

type Overrides = { readonly files?: Record<string, string>; readonly model?: ReturnType<typeof fakeModel> };

/** A folder of files (old enough for their times to be trusted) and an empty corpus. */
async function setUp({ files = {}, model = fakeModel() }: Overrides = {}) {
  const root = await temporaryFolder();
  const docs = join(root, "docs");
  const dir = join(root, "store");
  const [store, embedder] = [memoryStore(), fakeEmbedder()];
  const write = async (name: string, text: string, minutesAgo = 10) => {
    await mkdir(docs, { recursive: true });
    await writeFile(join(docs, name), text);
    const time = Date.now() / 1000 - minutesAgo * 60;
    await utimes(join(docs, name), time, time);
  };
  await mkdir(docs);
  for (const [name, text] of Object.entries(files)) await write(name, text);
  const reopen = async (options: Partial<Parameters<typeof openCorpus>[1]> = {}) => {
    const corpus = await openCorpus(dir, { model, store, embedder, create: true, ...options });
    onTestFinished(() => corpus.close());
    return corpus;
  };
  return { root, docs, dir, model, store, embedder, write, reopen, corpus: await reopen() };
}

const FILES = {
  "copper.md": "# Copper roofs\n\nCopper turns green by the sea.",
  "keeper.txt": "Oda kept a diary of every ship.",
  "facts.jsonl": '{"title":"Ferry","text":"A cable ferry crosses the Marten."}\n{"title":"Owl","text":"The owl hunts at night."}',
};

const textsIn = async (corpus: Corpus, topK = 50) => (await corpus.retrieve("the", { topK })).map(({ text }) => text).sort();

describe("precompute", () => {
  test("loads, splits, embeds and encodes, and reports what it did", async () => {
    const { corpus, docs, model, store } = await setUp({ files: FILES });
    const progress: Progress[] = [];
    const report = await corpus.precompute([docs], { onProgress: (step) => progress.push(step) });
    expect(report).toMatchObject({ files: 3, chunks: 4, encoded: 4, unchanged: 0, removed: 0, problems: [] });
    expect(model.encoded).toContain("Title: Ferry\nA cable ferry crosses the Marten.\n");
    expect(store.blocks.size).toBe(4);
    expect(report.tokens).toBe(model.encoded.reduce((sum, text) => sum + model.tokenizer.encode(text).length, 0));
    expect(corpus.totals).toEqual({ files: 3, chunks: 4, tokens: report.tokens });

    const last = progress.at(-1)!;
    expect(last).toMatchObject({ files: { done: 3, total: 3 }, encoded: 4, tokens: report.tokens });
    expect(last.bytes.done).toBe(last.bytes.total);
    expect(progress.map(({ bytes }) => bytes.done)).toEqual(progress.map(({ bytes }) => bytes.done).sort((a, b) => a - b));
  });

  test("unchanged files cost no loading, embedding or encoding, in this process or the next", async () => {
    const { corpus, docs, model, embedder, reopen } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    const [encoded, embedded] = [model.encoded.length, embedder.embedded.length];
    await chmod(join(docs, "keeper.txt"), 0o000); // size and time suffice: it is not even read
    for (const again of [corpus, await reopen()]) {
      expect(await again.precompute([docs])).toMatchObject({ files: 3, unchanged: 3, encoded: 0, chunks: 4, problems: [] });
    }
    expect([model.encoded.length, embedder.embedded.length]).toEqual([encoded, embedded]);
  });

  test("a file with a new time but the same content counts as unchanged", async () => {
    const { corpus, docs, embedder, write } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    const embedded = embedder.embedded.length;
    await write("keeper.txt", FILES["keeper.txt"], 5);
    expect(await corpus.precompute([docs])).toMatchObject({ unchanged: 3, encoded: 0 });
    expect(embedder.embedded).toHaveLength(embedded);
  });

  test("a change right after a run is noticed, even with equal size and time", async () => {
    const { corpus, docs, write } = await setUp();
    await write("a.txt", "The old text.", 0);
    await corpus.precompute([docs]);
    const { atime, mtime } = await stat(join(docs, "a.txt"));
    await writeFile(join(docs, "a.txt"), "The new text.");
    await utimes(join(docs, "a.txt"), atime, mtime);
    expect(await corpus.precompute([docs])).toMatchObject({ unchanged: 0, encoded: 1 });
    expect(await textsIn(corpus)).toEqual(["The new text."]);
  });

  test("a changed file's chunks are replaced, and blocks that no chunk refers to are deleted", async () => {
    const { corpus, docs, store, write, model } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    await write("facts.jsonl", '{"title":"Owl","text":"The owl hunts at night."}\n{"title":"Fox","text":"The fox hunts by day."}', 5);
    expect(await corpus.precompute([docs])).toMatchObject({ encoded: 1, unchanged: 2, chunks: 4 });
    expect(store.blocks.size).toBe(4);
    expect(model.encoded.filter((text) => text.includes("owl"))).toHaveLength(1);
    const texts = await textsIn(corpus);
    expect(texts).toContain("The fox hunts by day.");
    expect(texts.join()).not.toContain("ferry");
  });

  test("a deleted file's chunks are removed when its folder or glob is given; other files stay", async () => {
    const { corpus, docs, store, root } = await setUp({ files: FILES });
    const elsewhere = join(root, "docs-of-others.txt");
    await writeFile(elsewhere, "Other text.");
    await corpus.precompute([docs, elsewhere]);
    await rm(join(docs, "keeper.txt"));
    await rm(elsewhere);
    expect(await corpus.precompute([join(docs, "copper.md")])).toMatchObject({ removed: 0, chunks: 5 });
    expect(await corpus.precompute([docs])).toMatchObject({ removed: 1, chunks: 4 });
    expect(store.blocks.size).toBe(4);
    expect(await corpus.precompute([join(root, "*.md")])).toMatchObject({ removed: 1, chunks: 3 });
  });

  test("equal chunks share a block, which stays as long as one of them does", async () => {
    const { corpus, docs, store, model } = await setUp({
      files: { "a.md": "# Same\n\nThe same text.", "b.md": "# Same\n\nThe same text." },
    });
    expect(await corpus.precompute([docs])).toMatchObject({ chunks: 2, encoded: 1 });
    expect(model.encoded).toHaveLength(1);
    expect(await corpus.retrieve("same")).toHaveLength(1);
    await rm(join(docs, "a.md"));
    await corpus.precompute([docs]);
    expect(store.blocks.size).toBe(1);
    await rm(join(docs, "b.md"));
    await corpus.precompute([docs]);
    expect(store.blocks.size).toBe(0);
  });

  test("every run reports problems, and continues with the other files", async () => {
    const { corpus, docs } = await setUp({ files: { ...FILES, "empty.txt": "", "bad.jsonl": '{"text":"Good."}\nbad' } });
    for (const encoded of [5, 0]) {
      const report = await corpus.precompute([docs]);
      expect(report).toMatchObject({ encoded, chunks: 5 });
      expect(report.problems.map(({ path, line }) => [path, line])).toEqual([
        [join(docs, "bad.jsonl"), 2],
        [join(docs, "empty.txt"), undefined],
      ]);
    }
  });

  test("a file that cannot be read is reported, and its stored content is kept", async () => {
    const { corpus, docs, write } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    await write("copper.md", "# Copper roofs\n\nNew text.", 5);
    const path = join(docs, "keeper.txt");
    const onProgress = () => {
      rmSync(path, { recursive: true, force: true });
      mkdirSync(path, { recursive: true }); // reading a folder fails, even for root
    };
    const report = await corpus.precompute([docs], { onProgress });
    expect(report).toMatchObject({ encoded: 1, chunks: 4, removed: 0 });
    expect(report.problems).toMatchObject([{ path: join(docs, "keeper.txt"), reason: expect.stringMatching(/cannot be read.*is kept/) }]);
    expect(await textsIn(corpus)).toContain(FILES["keeper.txt"]);
  });

  test("a cancelled run keeps what it committed, and the next one continues without encoding it again", async () => {
    const stop = new AbortController();
    const model = fakeModel();
    const { corpus, docs } = await setUp({ files: FILES, model });
    const run = corpus.precompute([docs], { signal: stop.signal, onProgress: ({ encoded }) => encoded === 2 && stop.abort() });
    await expect(run).rejects.toMatchObject({ code: "cancelled", message: expect.stringContaining("run again") });
    expect(await corpus.precompute([docs])).toMatchObject({ encoded: 2, chunks: 4 });
    expect(new Set(model.encoded).size).toBe(model.encoded.length);
  });

  test("the first failure cancels what else is being encoded, and is what the run reports", async () => {
    const { corpus, docs } = await setUp({ files: FILES });
    let waiting = 0;
    const encoder: BlockEncoder = {
      atOnce: 8,
      async encodeMissing(_key, _source, { signal } = {}) {
        if (++waiting === 4) throw new KvspliceError("no_space", "The disk is full.");
        await once(signal!, "abort");
        throw new KvspliceError("cancelled", "Cancelled.");
      },
    };
    await expect(corpus.precompute([docs], { encoder })).rejects.toMatchObject({ code: "no_space" });
    expect(waiting).toBe(4);
  });

  test("nothing stored is lost if encoding fails", async () => {
    let fails = false;
    const model = fakeModel({
      onEncode: async () => {
        if (fails) throw new Error("no more memory");
      },
    });
    const { corpus, docs, write, store } = await setUp({ files: FILES, model });
    await corpus.precompute([docs]);
    fails = true;
    await write("copper.md", "# Copper roofs\n\nAnother text.", 5);
    await expect(corpus.precompute([docs])).rejects.toThrow("no more memory");
    expect(await textsIn(corpus)).toContain("Copper turns green by the sea.");
    expect(store.blocks.size).toBe(4);
  });

  test("blocks lost by the store are encoded again from the corpus, without their files", async () => {
    const { corpus, docs, store, embedder } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    const embedded = embedder.embedded.length;
    store.blocks.delete([...store.blocks.keys()][1]!);
    expect(await corpus.precompute([join(docs, "copper.md")])).toMatchObject({ encoded: 1, unchanged: 1 });
    expect(store.blocks.size).toBe(4);
    expect(embedder.embedded).toHaveLength(embedded);
  });

  test("two concurrent runs leave the same result as one", async () => {
    const { corpus, docs, store, reopen, model, write } = await setUp({ files: FILES });
    const other = await reopen();
    const both = () => Promise.all([corpus.precompute([docs]), other.precompute([docs])]);
    await both();
    await write("facts.jsonl", '{"title":"Fox","text":"The fox hunts by day."}', 5);
    await rm(join(docs, "keeper.txt"));
    await both();
    const settled = await reopen();
    expect(await settled.precompute([docs])).toMatchObject({ encoded: 0, removed: 0, unchanged: 2, chunks: 2 });
    expect(await textsIn(settled)).toEqual(["Copper turns green by the sea.", "The fox hunts by day."]);
    expect(settled.totals.tokens).toBe((await settled.retrieve("the")).reduce((sum, { tokens }) => sum + tokens.length, 0));
    expect(store.blocks.size).toBe(2);
    expect(model.encoded.length).toBeGreaterThanOrEqual(5);
  });

  test("a name that does not exist stops the run before it starts", async () => {
    const { corpus, docs, model } = await setUp({ files: FILES });
    await expect(corpus.precompute([docs, join(docs, "nowhere")])).rejects.toMatchObject({ code: "bad_file" });
    expect(model.encoded).toEqual([]);
  });
});

describe("retrieve", () => {
  test("finds by words and by meaning, best first, at most topK", async () => {
    const { corpus, docs } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    const [best, ...others] = await corpus.retrieve("Who kept a diary?");
    expect(best).toMatchObject({ path: join(docs, "keeper.txt"), title: "keeper", text: "Oda kept a diary of every ship." });
    expect(others).toHaveLength(3);
    expect(others.every(({ score }) => score <= best!.score)).toBe(true);
    expect(await corpus.retrieve("Who kept a diary?", { topK: 2 })).toHaveLength(2);
  });

  test("a source from a PDF has its page, before and after an export", async () => {
    const { corpus, docs, root, model, store, embedder } = await setUp({ files: FILES });
    await writeFile(
      join(docs, "roofs.pdf"),
      makePdf([["Slate stays grey."], ["Weathering of copper sheets:", "green ".repeat(10), "green ".repeat(10)]]),
    );
    await corpus.precompute([docs]);
    await corpus.exportTo(join(root, "out.safetensors"));
    const other = await openCorpus(join(root, "other"), { model, store, embedder, create: true });
    onTestFinished(() => other.close());
    await other.importFrom(join(root, "out.safetensors"));
    for (const each of [corpus, other]) {
      const sources = await each.retrieve("weathering of copper sheets", { topK: 9 });
      expect(sources.find(({ text }) => text.startsWith("Weathering"))).toMatchObject({ page: 2, path: join(docs, "roofs.pdf") });
      expect(
        Array.from(each.chunks())
          .filter(({ page }) => page !== undefined)
          .map(({ page }) => page),
      ).toEqual([1, 2]);
      expect(sources.find(({ path }) => path.endsWith(".txt"))).not.toHaveProperty("page");
    }
  });

  test("sees what another process has stored since", async () => {
    const { corpus, docs, write, reopen } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    const reader = await reopen();
    await reader.retrieve("fox");
    await write("fox.txt", "The fox hunts by day.");
    await corpus.precompute([docs]);
    expect((await reader.retrieve("fox"))[0]!.title).toBe("fox");
  });

  test.each([0, -1, 1.5, NaN])("topK %d is an error that says what to do", async (topK) => {
    const { corpus } = await setUp();
    await expect(corpus.retrieve("Why?", { topK })).rejects.toMatchObject({
      code: "bad_argument",
      message: expect.stringMatching(/top-k.*1 or more/),
    });
  });

  test("an empty question and an empty corpus are errors that say what to do", async () => {
    const { corpus } = await setUp();
    await expect(corpus.retrieve(" \n")).rejects.toMatchObject({ code: "bad_argument", message: expect.stringContaining("ask") });
    await expect(corpus.retrieve("Why?")).rejects.toMatchObject({ code: "empty_corpus", message: expect.stringContaining("precompute") });
  });
});

describe("ask", () => {
  test("returns sources, then tokens, then stats; the plan uses the stored blocks", async () => {
    const { corpus, docs, model, store } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    const answer = await corpus.ask("Who kept a diary?", { topK: 2, linkTokens: 1 });
    expect(answer.sources.map(({ title }) => title)).toContain("keeper");
    let text = "";
    for await (const token of answer) text += token.text;
    expect(text).toBe("a fake answer");
    expect(await answer.stats).toMatchObject({ generated_tokens: 3, retrieve_ms: expect.any(Number) });
    const blocks = model.plans[0]!.pieces.filter(isBlockPiece)
      .slice(1)
      .map(({ block }) => block);
    expect(blocks.map(({ tokens }) => tokens)).toEqual(answer.sources.map(({ tokens }) => tokens).reverse()); // the best comes last
    for (const block of blocks) expect(store.blocks.has(model.keyOf(block))).toBe(true);
  });

  test("a question longer than the context is an error with both counts", async () => {
    const { corpus, docs } = await setUp({ files: FILES, model: fakeModel({ contextLength: 200 }) });
    await corpus.precompute([docs]);
    await expect(corpus.ask("long ".repeat(300))).rejects.toMatchObject({
      code: "too_long",
      message: expect.stringMatching(/takes \d{3} tokens.*holds 200/),
    });
  });

  test("a cancelled question is not answered", async () => {
    const { corpus, docs, model } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    await expect(corpus.ask("Who?", { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });
    expect(model.plans).toEqual([]);
  });
});

describe("opening", () => {
  test("a folder without a corpus is an error, unless `create` is set", async () => {
    const folder = await temporaryFolder();
    const options = { model: fakeModel(), store: memoryStore(), embedder: fakeEmbedder() };
    await expect(openCorpus(folder, options)).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringContaining("kvsplice precompute"),
    });
    await (await openCorpus(folder, { ...options, create: true })).close();
    await (await openCorpus(folder, options)).close();
  });

  test("a corpus reports the precision of its blocks, and refuses others", async () => {
    const { corpus, docs, dir, reopen } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    expect(await peekCorpus(dir)).toMatchObject({ precision: "float32" });
    expect(await peekCorpus(await temporaryFolder())).toBeUndefined();
    await expect(reopen({ model: fakeModel({ precision: "int8" }) })).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringMatching(/keeps its KV as float32, not as int8; use that precision/),
    });
  });

  test("a corpus reports how its blocks were encoded, and refuses others", async () => {
    const { corpus, docs, dir, reopen } = await setUp({ files: FILES, model: fakeModel({ id: "8".repeat(64), encoding: "w8a8" }) });
    await corpus.precompute([docs]);
    expect(await peekCorpus(dir)).toMatchObject({ encoding: "w8a8" });
    await expect(reopen({ model: fakeModel() })).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringMatching(/has documents encoded as w8a8, not exact; leave out --encoding/),
    });
  });

  test("a corpus of another model or embedder is an error that names both", async () => {
    const { corpus, docs, reopen } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    await expect(reopen({ model: fakeModel({ id: "e".repeat(64), name: "other" }) })).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringMatching(/with the model fake \(f+\), not with other \(e+\); use that model/),
    });
    await expect(reopen({ embedder: { ...fakeEmbedder(), id: "other" } })).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringMatching(/bag-of-words.*other/),
    });
  });

  test("a corpus with an older kvsplice's blocks is an error that names the command to encode it again", async () => {
    const { corpus, docs, dir, reopen } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    await expect(reopen({ model: fakeModel({ id: "e".repeat(64) }) })).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringContaining(`Encode its documents again, into another folder: kvsplice precompute ${docs} --store ${dir}.new`),
    });
  });

  test("a corpus of a newer format is an error that says to update", async () => {
    const { corpus, dir, reopen } = await setUp();
    await corpus.close();
    const root = open({ path: join(dir, "corpus.lmdb"), noSubdir: true });
    const meta = root.openDB({ name: "meta" });
    await meta.put("meta", { ...(meta.get("meta") as object), format: 99 });
    await root.close();
    await expect(reopen()).rejects.toMatchObject({ code: "bad_store", message: expect.stringContaining("update kvsplice") });
  });

  test("a file that is not a corpus is an error, and is not changed", async () => {
    const folder = await temporaryFolder();
    const options = { model: fakeModel(), store: memoryStore(), embedder: fakeEmbedder(), create: true };
    await writeFile(join(folder, "corpus.lmdb"), "something else ".repeat(1000));
    await expect(openCorpus(folder, options)).rejects.toMatchObject({ code: "bad_store", message: expect.stringContaining(folder) });
    await expect(openCorpus(join(folder, "corpus.lmdb"), options)).rejects.toMatchObject({ code: "bad_store" });
  });
});

describe("a closed corpus", () => {
  test("ends a precompute with `closed`, waits for it, and keeps what was stored", async () => {
    let encoding = () => undefined as void;
    const begun = new Promise<void>((resolve) => (encoding = resolve));
    const model = fakeModel({ onEncode: async () => encoding() });
    const { corpus, docs, reopen } = await setUp({ files: FILES, model });
    const run = corpus.precompute([docs]);
    run.catch(() => undefined);
    await begun;
    await Promise.all([corpus.close(), corpus.close()]);
    await expect(run).rejects.toMatchObject({ code: "closed" });
    await expect(corpus.retrieve("ferry")).rejects.toMatchObject({
      code: "closed",
      message: expect.stringMatching(/was closed. Open it again/),
    });
    expect(await (await reopen()).precompute([docs])).toMatchObject({ chunks: 4 });
  });

  test("answers no more questions", async () => {
    const { corpus, docs } = await setUp({ files: FILES });
    await corpus.precompute([docs]);
    await corpus.ask("Where is the ferry?");
    await corpus.close();
    await expect(corpus.ask("Where is the ferry?")).rejects.toMatchObject({ code: "closed" });
  });
});
