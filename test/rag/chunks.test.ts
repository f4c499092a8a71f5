import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { Chunks, openCorpus } from "../../rag/index.js";
import { fakeEmbedder, fakeModel, memoryStore } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

/** The fake model's chunks have 60 tokens: a paragraph of this length is one chunk. */
const paragraph = (word: string) => `${`${word} `.repeat(40).trim()}.`;

async function corpusOf(files: Readonly<Record<string, string>>) {
  const root = await temporaryFolder();
  const docs = join(root, "docs");
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(docs, name)), { recursive: true });
    await writeFile(join(docs, name), text);
  };
  for (const [name, text] of Object.entries(files)) await write(name, text);
  const corpus = await openCorpus(join(root, "kv"), { model: fakeModel(), store: memoryStore(), embedder: fakeEmbedder(), create: true });
  onTestFinished(() => corpus.close());
  await corpus.precompute([docs]);
  return { corpus, docs, dir: join(root, "kv"), write };
}

const FILES = {
  "ferry.md": `# Ferry\n\n${paragraph("boat")}\n\n${paragraph("rope")}\n\n${paragraph("toll")}\n`,
  "owl.txt": "The owl hunts.",
  "en/guide.md": "# Guide\n\nGood day.",
  "de/guide.md": "# Guide\n\nGuten Tag.",
  "more/ferry.md": "# Other ferry\n\nIt is small.",
};

test("lists all chunks by path and number: a ref is the shortest unique end of a path", async () => {
  const { corpus } = await corpusOf({ ...FILES, "facts.jsonl": `{"title":"A","text":"One."}\n{"title":"B","text":"Two."}` });
  const refs = Array.from(corpus.chunks(), ({ ref }) => ref);
  expect(refs).toEqual([
    "de/guide.md#1",
    "en/guide.md#1",
    "facts.jsonl#1",
    "facts.jsonl#2",
    "docs/ferry.md#1",
    "docs/ferry.md#2",
    "docs/ferry.md#3",
    "more/ferry.md#1",
    "owl.txt#1",
  ]);
  for (const chunk of corpus.chunks()) {
    expect(corpus.chunk(chunk.ref)).toEqual(chunk);
    expect(corpus.blockOf(chunk.ref).tokens).toEqual(chunk.tokens);
  }
});

test("any longer end of the path refers to the same file, and the number may be left out if there is one chunk", async () => {
  const { corpus, docs } = await corpusOf(FILES);
  expect(corpus.chunk("docs/ferry.md#2")).toMatchObject({
    title: "Ferry",
    path: join(docs, "ferry.md"),
    text: expect.stringContaining("rope"),
  });
  expect(corpus.chunk(`${join(docs, "ferry.md")}#2`).ref).toBe("docs/ferry.md#2");
  for (const ref of ["owl.txt", "docs/owl.txt", "owl.txt#1"]) expect(corpus.chunk(ref).text).toBe("The owl hunts.");
});

test.for([
  ["feri.md#2", "no document `feri.md#2`: there is no such file in the corpus; `kvsplice chunks --store DIR` lists all chunks"],
  ["owl.text#1", "no document `owl.text#1`: there is no such file in the corpus; did you mean `owl.txt#1`?"],
  ["wl.txt", "no document `wl.txt`: there is no such file in the corpus; did you mean `owl.txt`?"],
  ["guide.md#1", "no document `guide.md#1`: 2 files of the corpus have this end; write `de/guide.md#1` or `en/guide.md#1`"],
  ["docs/ferry.md", "no document `docs/ferry.md`: `docs/ferry.md` has 3 chunks, `docs/ferry.md#1` to `docs/ferry.md#3`"],
  ["docs/ferry.md#0", "no document `docs/ferry.md#0`: `docs/ferry.md` has 3 chunks, `docs/ferry.md#1` to `docs/ferry.md#3`"],
  ["owl.txt#2", "no document `owl.txt#2`: `owl.txt` has 1 chunk, `owl.txt#1`"],
] as const)("%s is an error that suggests what was likely meant", async ([ref, message]) => {
  const { corpus } = await corpusOf(FILES);
  expect(() => corpus.chunk(ref)).toThrow(expect.objectContaining({ code: "unknown_document", message }));
});

test("refs follow the corpus: a short ref grows when another file has the same end", async () => {
  const { corpus, docs, write } = await corpusOf({ "a.md": "# A\n\nOne." });
  expect(corpus.chunk("a.md").text).toBe("One.");
  await write("more/a.md", "# A\n\nTwo.");
  await corpus.precompute([docs]);
  expect(() => corpus.chunk("a.md")).toThrow(/write `docs\/a\.md` or `more\/a\.md`/);
  expect(corpus.chunk("more/a.md").text).toBe("Two.");
});

test("sources have the refs of their chunks", async () => {
  const { corpus } = await corpusOf(FILES);
  const sources = await corpus.retrieve("the owl and the boat", { topK: 9 });
  expect(sources.map(({ ref }) => ref)).toContain("owl.txt#1");
  for (const { ref, text, tokens } of sources) expect(corpus.chunk(ref)).toMatchObject({ text, tokens });
});

test("chunks can be looked up without a model, and without creating a corpus", async () => {
  const { corpus, dir } = await corpusOf(FILES);
  const chunks = await Chunks.open(dir);
  expect([...chunks.all()]).toEqual([...corpus.chunks()]);
  await chunks.close();
  await expect(Chunks.open(join(dir, "nowhere"))).rejects.toMatchObject({ code: "bad_store" });
});
