import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";

import { expect, onTestFinished, test } from "vitest";

import { type Block, type BlockStore, type Model, openDiskStore, Seal } from "../../engine/index.js";
import { type Corpus, mustBeImportable, openCorpus } from "../../rag/index.js";
import { likeLayers } from "../support/engine/plain-kv.js";
import { type FakeModel, fakeEmbedder, fakeModel, memoryStore } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

const FILES = 6;
const LINES = 4;

async function corpusIn(dir: string, model: FakeModel = fakeModel({ form: FORM }), store: BlockStore = openDiskStore(join(dir, "blocks"))) {
  const corpus = await openCorpus(dir, { model, store, embedder: fakeEmbedder(), create: true });
  onTestFinished(() => corpus.close());
  return { corpus, store, model };
}

const FORM = { layers: likeLayers(2, 1, 4) };

const STYLE = { name: "style=0.5", id: "a".repeat(64), where: "encode" as const };

/** A corpus of some files, and a path to export it to. */
async function setUp() {
  const root = await temporaryFolder();
  const docs = join(root, "docs");
  await mkdir(docs);
  for (let file = 0; file < FILES; file++) {
    const lines = Array.from({ length: LINES }, (_, line) =>
      JSON.stringify({ title: `File ${file}`, text: `Text ${file} ${line} of many.` }),
    );
    await writeFile(join(docs, `${file}.jsonl`), lines.join("\n"));
  }
  const from = await corpusIn(join(root, "from"), fakeModel({ encode: async ({ tokens }) => blockOf(tokens), form: FORM }));
  await from.corpus.precompute([docs]);
  return { root, docs, ...from, path: join(root, "out.safetensors") };
}

/** A block whose values come from its tokens, so that no two are equal. */
function blockOf(tokens: readonly number[]): Block {
  const k = Float32Array.from({ length: 2 * tokens.length * 4 }, (_, i) => Math.sin(tokens[i % tokens.length]! + i));
  return {
    precision: "float32",
    layers: [
      { heads: 1, headSize: 4 },
      { heads: 1, headSize: 4 },
    ],
    tokens: tokens.length,
    k,
    v: k.map((value) => -value),
  };
}

type Header = { __metadata__: Record<string, string> } & Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** Reads the file as the format is described: by hand, not with the code under test. */
async function readByHand(path: string) {
  const file = await readFile(path);
  const length = Number(file.readBigUInt64LE());
  const header = JSON.parse(file.toString("utf8", 8, 8 + length)) as Header;
  return { file, length, header, data: file.subarray(8 + length) };
}

const asked = async (corpus: Corpus) =>
  (await corpus.retrieve("Text 3 2", { topK: 5 })).map(({ title, text, path, tokens }) => ({ title, text, path, tokens }));

test("a corpus exported and imported into an empty store has the same chunks, vectors and blocks", async () => {
  const { root, docs, corpus, store, model, path } = await setUp();
  const report = await corpus.exportTo(path);
  expect(report).toMatchObject({
    paths: [path],
    blocks: FILES * LINES,
    files: FILES,
    chunks: FILES * LINES,
    bytes: (await readFile(path)).length,
  });
  const to = await corpusIn(join(root, "to"));
  expect(await to.corpus.importFrom(path)).toMatchObject({
    blocks: FILES * LINES,
    imported: FILES * LINES,
    files: FILES,
    unchanged: 0,
    kept: 0,
    chunks: FILES * LINES,
  });
  expect(await asked(to.corpus)).toEqual(await asked(corpus));
  for await (const key of store.keys()) expect(await to.store.get(key)).toEqual(await store.get(key));
  expect(await to.corpus.precompute([docs])).toMatchObject({ encoded: 0, unchanged: FILES });
  expect(model.keyOf({ tokens: [] })).toBe(to.model.keyOf({ tokens: [] }));
});

test("the file is a valid safetensors file: JSON header, every data byte in exactly one tensor, metadata of strings", async () => {
  const { corpus, model, path } = await setUp();
  await corpus.exportTo(path);
  const { file, length, header, data } = await readByHand(path);
  const { __metadata__: metadata, ...tensors } = header;
  expect(String.fromCharCode(file[8]!)).toBe("{");
  expect(length % 8).toBe(0);
  expect(length).toBeLessThan(100_000_000);
  expect(Object.values(metadata).every((value) => typeof value === "string")).toBe(true);
  const bytes: Record<string, number> = { F32: 4, U8: 1 };
  let end = 0;
  for (const { dtype, shape, data_offsets } of Object.values(tensors).sort((a, b) => a.data_offsets[0] - b.data_offsets[0])) {
    expect(data_offsets).toEqual([end, end + shape.reduce((product, size) => product * size, bytes[dtype]!)]);
    end = data_offsets[1];
  }
  expect(end).toBe(data.length);
  const [source] = await corpus.retrieve("Text 3 2", { topK: 1 });
  const key = model.keyOf({ tokens: source!.tokens });
  const k = tensors[`${key}.k`]!;
  expect(k).toMatchObject({ dtype: "F32", shape: [2 * source!.tokens.length * 4] });
  expect(data.readFloatLE(k.data_offsets[0])).toBe(blockOf(source!.tokens).k[0]);
  expect(metadata).toMatchObject({ format: "kvsplice-corpus-1", model: model.id, precision: "float32" });
});

test("a file with any byte changed or its end cut off is refused, and the corpus stays as it was", async () => {
  const { root, corpus, path } = await setUp();
  await corpus.exportTo(path);
  const intact = await readFile(path);
  const bad = join(root, "bad.safetensors");
  const store = memoryStore();
  const to = await corpusIn(join(root, "to"), fakeModel(), store);
  const places = Array.from({ length: 150 }, (_, i) => Math.floor((i * intact.length) / 150) + (i % 7));
  for (const at of places) {
    const bytes = Buffer.from(intact);
    bytes[at]! ^= 1 << (at % 8);
    await writeFile(bad, bytes);
    store.blocks.clear();
    await expect(to.corpus.importFrom(bad), `byte ${at}`).rejects.toMatchObject({ code: "bad_file" });
  }
  for (const length of [0, 7, 8, 500, intact.length >> 1, intact.length - 1]) {
    await writeFile(bad, intact.subarray(0, length));
    await expect(to.corpus.importFrom(bad)).rejects.toMatchObject({ code: "bad_file" });
  }
  expect(to.corpus.totals.chunks).toBe(0);
});

test("an interrupted import continues where it stopped", async () => {
  const { root, corpus, path } = await setUp();
  await corpus.exportTo(path);
  const to = await corpusIn(join(root, "to"));
  const cancel = new AbortController();
  const onProgress = ({ blocks }: { blocks: number }) => blocks === 10 && cancel.abort();
  await expect(to.corpus.importFrom(path, { signal: cancel.signal, onProgress })).rejects.toMatchObject({ code: "cancelled" });
  expect(await to.corpus.importFrom(path)).toMatchObject({ blocks: FILES * LINES, imported: FILES * LINES - 10, files: FILES });
  expect(await to.corpus.importFrom(path)).toMatchObject({ imported: 0, files: 0, unchanged: FILES });
});

test("a cancelled export leaves no files, and an export never overwrites one", async () => {
  const { root, corpus, path } = await setUp();
  const cancel = new AbortController();
  const onProgress = ({ blocks }: { blocks: number }) => blocks === 10 && cancel.abort();
  await expect(corpus.exportTo(path, { signal: cancel.signal, onProgress })).rejects.toMatchObject({ code: "cancelled" });
  expect((await readdir(root)).filter((name) => name.startsWith("out"))).toEqual([]);
  await writeFile(path, "mine");
  await expect(corpus.exportTo(path)).rejects.toMatchObject({ code: "bad_file", message: expect.stringMatching(/exists/) });
  expect(await readFile(path, "utf8")).toBe("mine");
});

test("existing documents are kept, and the others are added", async () => {
  const { root, docs, corpus, path } = await setUp();
  await corpus.exportTo(path);
  const to = await corpusIn(join(root, "to"));
  await writeFile(join(docs, "0.jsonl"), JSON.stringify({ title: "Mine", text: "Another text of mine." }));
  await to.corpus.precompute([join(docs, "0.jsonl"), join(docs, "1.jsonl")]);
  expect(await to.corpus.importFrom(path)).toMatchObject({ files: FILES - 2, unchanged: 1, kept: 1, imported: (FILES - 1) * LINES });
  expect((await to.corpus.retrieve("Another text of mine", { topK: 1 }))[0]).toMatchObject({ title: "Mine" });
});

test("blocks beyond one header's limit go into several files, and can be imported from any of them", async () => {
  const { root, corpus, path } = await setUp();
  const { paths } = await corpus.exportTo(path, { maxHeaderBytes: 4096 + 10 * 560 });
  expect(paths.map((each) => each.slice(root.length))).toEqual([
    "/out-00001-of-00003.safetensors",
    "/out-00002-of-00003.safetensors",
    "/out-00003-of-00003.safetensors",
  ]);
  const to = await corpusIn(join(root, "to"));
  expect(await to.corpus.importFrom(paths[1]!)).toMatchObject({ imported: FILES * LINES, files: FILES });
  expect(await asked(to.corpus)).toEqual(await asked(corpus));
  await writeFile(paths[2]!, "");
  await expect((await corpusIn(join(root, "less"))).corpus.importFrom(paths[0]!)).rejects.toMatchObject({
    code: "bad_file",
    message: expect.stringContaining("00003-of-00003"),
  });
});

test.each([
  [{ id: "e".repeat(64), name: "other" }, /made with the model fake \(f{12}\), not with other \(e{12}\); import it with that model/],
  [{ precision: "int8" as const }, /stores blocks as float32, not as int8; a corpus has one precision/],
  [{ keyOf: () => "0" }, /another version of kvsplice/],
  [{ adapters: [STYLE] }, /was made without an adapter \(fake\), but is opened with style=0\.5; import it without --adapter/],
])("refuses a file that does not fit the model: %j", async (differences, message) => {
  const { corpus, path } = await setUp();
  await corpus.exportTo(path);
  await expect(mustBeImportable(path, { model: fakeModel(differences), embedder: "bag-of-words" })).rejects.toMatchObject({
    code: "bad_file",
    message: expect.stringMatching(message),
  });
});

test("names the adapters of its blocks, and refuses other adapters or none", async () => {
  const { root, docs, path } = await setUp();
  const other = { name: "hf:acme/facts", id: "b".repeat(64), where: "encode" as const };
  const adapted = (adapters: Model["adapters"]) => fakeModel({ encode: async ({ tokens }) => blockOf(tokens), form: FORM, adapters });
  const { corpus } = await corpusIn(join(root, "adapted"), adapted([STYLE, other]));
  await corpus.precompute([docs]);
  await corpus.exportTo(path);
  expect(JSON.parse((await readByHand(path)).header.__metadata__["adapters"]!)).toEqual(
    [STYLE, other].map(({ name, id }) => ({ name, id })),
  );
  const importable = (adapters: Model["adapters"]) => mustBeImportable(path, { model: adapted(adapters), embedder: "bag-of-words" });
  await importable([other, STYLE]);
  for (const adapters of [[], [other], [STYLE, { ...other, id: "c".repeat(64) }]]) {
    await expect(importable(adapters)).rejects.toMatchObject({
      code: "bad_file",
      message: expect.stringMatching(/with style=0\.5 and hf:acme\/facts .*import it with --adapter style=0\.5 --adapter hf:acme\/facts/),
    });
  }
});

test("takes over the linking that an audit found best, if the corpus has none of its own", async () => {
  const { root, corpus, path } = await setUp();
  corpus.link = { kind: "question", share: 0.3 };
  await corpus.exportTo(path);
  const to = await corpusIn(join(root, "to"));
  expect(await to.corpus.importFrom(path)).toMatchObject({ link: "0.3" });
  expect(to.corpus.link).toEqual({ kind: "question", share: 0.3 });
  to.corpus.link = { kind: "none" };
  expect((await to.corpus.importFrom(path)).link).toBeUndefined();
  expect(to.corpus.link).toEqual({ kind: "none" });
});

test("refuses files that are not exports", async () => {
  const root = await temporaryFolder();
  const to = await corpusIn(join(root, "to"));
  await writeFile(join(root, "a.txt"), "Some text, which is no file of tensors.");
  const plain = Buffer.from('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(plain.length));
  await writeFile(join(root, "weights.safetensors"), Buffer.concat([length, plain, Buffer.alloc(4)]));
  await expect(to.corpus.importFrom(join(root, "a.txt"))).rejects.toMatchObject({
    code: "bad_file",
    message: expect.stringMatching(/not a safetensors file/),
  });
  await expect(to.corpus.importFrom(join(root, "weights.safetensors"))).rejects.toMatchObject({
    code: "bad_file",
    message: expect.stringMatching(/not from kvsplice store export/),
  });
  await expect(to.corpus.importFrom(join(root, "missing"))).rejects.toMatchObject({ code: "bad_file" });
});

const SECRET = "a secret of some length";

test("a sealed export is accepted only with its key and namespace", async () => {
  const { root, corpus, path } = await setUp();
  const seal = new Seal(SECRET, "acme");
  await corpus.exportTo(path, { seal });
  const to = await corpusIn(join(root, "to"));
  for (const other of [new Seal(SECRET), new Seal(SECRET, "other"), new Seal(`${SECRET}.`, "acme")]) {
    await expect(to.corpus.importFrom(path, { seal: other })).rejects.toMatchObject({
      code: "bad_file",
      message: expect.stringMatching(/was not sealed with this KVSPLICE_STORE_KEY/),
    });
  }
  expect(to.corpus.totals.chunks).toBe(0);
  expect(await to.corpus.importFrom(path, { seal })).toMatchObject({ files: FILES, imported: FILES * LINES });
  expect(await (await corpusIn(join(root, "trusting"))).corpus.importFrom(path)).toMatchObject({ files: FILES });
});

test("with a key set, a file without a seal, or changed with recomputed checksums, is refused", async () => {
  const { root, corpus, path } = await setUp();
  const seal = new Seal(SECRET);
  await corpus.exportTo(path);
  const to = await corpusIn(join(root, "to"));
  await expect(to.corpus.importFrom(path, { seal })).rejects.toThrow(/was not sealed/);

  const sealed = join(root, "sealed.safetensors");
  await corpus.exportTo(sealed, { seal });
  corpus.link = { kind: "question", share: 0.3 };
  const linked = join(root, "linked.safetensors");
  await corpus.exportTo(linked, { seal });
  await rewrite(linked, '"link":"0.3"', '"link":"0.9"');
  await expect(to.corpus.importFrom(linked, { seal })).rejects.toThrow(/was not sealed .*\(link\)/);
  await rewrite(sealed, "Text 3 2", "Text 3 9");
  expect(await (await corpusIn(join(root, "trusting"))).corpus.importFrom(sealed)).toMatchObject({ files: FILES }); // the checksums match
  await expect(to.corpus.importFrom(sealed, { seal })).rejects.toThrow(/was not sealed .*\(corpus.records\)/);
});

test("a crafted export whose blocks have the wrong shape is refused, with or without a key", async () => {
  const { root, path } = await setUp();
  const crafted = await corpusIn(join(root, "crafted"), fakeModel({ encode: async ({ tokens }) => blockOf(tokens), form: FORM }));
  await crafted.corpus.precompute([join(root, "docs")]);
  await crafted.corpus.exportTo(path);
  const narrow = await corpusIn(join(root, "narrow"), fakeModel({ form: { layers: likeLayers(2, 2, 2) } }));
  await expect(narrow.corpus.importFrom(path)).rejects.toMatchObject({
    code: "bad_file",
    message: expect.stringMatching(/does not have the shape of fake's blocks/),
  });
  expect(narrow.corpus.totals.chunks).toBe(0);
  for await (const key of narrow.store.keys()) expect(key).toBeUndefined();
});

/** Changes the records like an attacker who can write the file but does not have the key: with correct checksums. */
async function rewrite(path: string, from: string, to: string): Promise<void> {
  const { header: before, data } = await readByHand(path);
  const header = JSON.parse(JSON.stringify(before).replaceAll(from, to)) as Header;
  const [start, end] = header["corpus.records"]!.data_offsets;
  const records = Buffer.from(data.subarray(start, end).toString().replaceAll(from, to));
  records.copy(data, start);
  const metadata = { ...header.__metadata__, "corpus.records": hex(crc32(records)), checksum: "" };
  const bare = { ...header, __metadata__: metadata };
  const text = JSON.stringify({ ...bare, __metadata__: { ...metadata, checksum: hex(crc32(JSON.stringify(bare))) } });
  const front = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, " ");
  front.writeBigUInt64LE(BigInt(front.length - 8));
  front.write(text, 8);
  await writeFile(path, Buffer.concat([front, data]));
}

const hex = (checksum: number) => checksum.toString(16).padStart(8, "0");
