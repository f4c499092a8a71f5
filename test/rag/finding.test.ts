import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { open } from "lmdb";
import { describe, expect, onTestFinished, test } from "vitest";

import { readingsOf, weigh } from "../../rag/corpus/follow-up.js";
import { type Corpus, embedCorpusAgain, openCorpus, peekCorpus } from "../../rag/index.js";
import { fakeEmbedder, fakeModel, memoryStore } from "../support/rag/fakes.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

/** A corpus of files, and a function that opens it again. */
async function corpusOf(files: Record<string, string>) {
  const root = await temporaryFolder();
  const [docs, dir] = [join(root, "docs"), join(root, "store")];
  const options = { model: fakeModel(), store: memoryStore(), embedder: fakeEmbedder(), create: true };
  const openAgain = async (more: Partial<Parameters<typeof openCorpus>[1]> = {}) => {
    const corpus = await openCorpus(dir, { ...options, ...more });
    onTestFinished(() => corpus.close());
    return corpus;
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(docs, name, ".."), { recursive: true });
    await writeFile(join(docs, name), text);
  }
  const corpus = await openAgain();
  await corpus.precompute([docs]);
  return { corpus, docs, dir, openAgain, ...options };
}

const titles = async (corpus: Corpus, question: string, options: Parameters<Corpus["retrieve"]>[1] = {}) =>
  (await corpus.retrieve(question, options)).map(({ title }) => title);

const FILES = {
  "releases/one.md": "---\ntitle: One\ndate: 2023-06-01\nteam: ops\ntags: [big, slow]\n---\nThe ferry got an engine.",
  "releases/two.md": "---\ntitle: Two\ndate: 2024-03-01\nteam: web\ntags: [small]\n---\nThe ferry got a bell.",
  "people.jsonl":
    '{"title": "Oda", "text": "Oda steers the ferry.", "team": "ops", "age": 61}\n{"title": "Marten", "text": "Marten mends the ferry.", "team": "web", "age": 34}',
  "plain.txt": "A note on the ferry.",
};

describe("conditions on fields", () => {
  test("a question finds only chunks that meet them, and sources have their fields", async () => {
    const { corpus, docs } = await corpusOf(FILES);
    const asked = async (where: Parameters<Corpus["retrieve"]>[1] & object) => (await titles(corpus, "What of the ferry?", where)).sort();
    expect(await asked({})).toEqual(["Marten", "Oda", "One", "Two", "plain"]);
    expect(await asked({ where: { team: "ops" } })).toEqual(["Oda", "One"]);
    expect(await asked({ where: { path: "releases", tags: ["small", "tiny"] } })).toEqual(["Two"]);
    expect(await asked({ where: { age: { from: 40 } } })).toEqual(["Oda"]);
    expect(await asked({ where: { date: { to: "2023" } } })).toEqual(["One"]);
    expect(await asked({ where: { title: "Nobody" } })).toEqual([]);
    const [one] = await corpus.retrieve("engine", { where: { title: "One" } });
    expect(one).toMatchObject({
      path: join(docs, "releases/one.md"),
      date: "2023-06-01",
      fields: { team: "ops", tags: ["big", "slow"], date: "2023-06-01" },
    });
  });

  test("a document without a date has its file's", async () => {
    const { corpus } = await corpusOf(FILES);
    const [plain] = await corpus.retrieve("note", { where: { path: "plain.txt" } });
    expect(plain!.date).toMatch(new RegExp(`^${new Date().toISOString().slice(0, 10)}`));
    expect(await titles(corpus, "note", { where: { date: { from: "2025" }, path: "*.txt" } })).toEqual(["plain"]);
  });

  test("a field that no document has is an error that names the existing ones", async () => {
    const { corpus } = await corpusOf(FILES);
    await expect(corpus.retrieve("ferry", { where: { teem: "ops" } })).rejects.toMatchObject({
      code: "bad_argument",
      message: expect.stringMatching(/"teem".*path, title, page, date, .*team/),
    });
  });

  test("an older corpus has no fields until its files are read again, which encodes and embeds nothing", async () => {
    const { corpus, docs, dir, openAgain, model, embedder } = await corpusOf(FILES);
    await corpus.close();
    const database = open({ path: join(dir, "corpus.lmdb"), noSubdir: true });
    const [files, chunks] = [
      database.openDB<Record<string, unknown>, string>({ name: "files" }),
      database.openDB<Record<string, unknown>, number>({ name: "chunks" }),
    ];
    for (const {
      key,
      value: { reader: _, ...file },
    } of files.getRange())
      await files.put(key, file);
    for (const {
      key,
      value: { fields: _, ...chunk },
    } of chunks.getRange())
      await chunks.put(key, chunk);
    await database.close();

    const again = await openAgain();
    await expect(again.retrieve("ferry", { where: { team: "ops" } })).rejects.toMatchObject({
      message: expect.stringContaining("precompute them again"),
    });
    expect(await titles(again, "ferry bell", { topK: 1 })).toEqual(["Two"]);
    const before = [model.encoded.length, embedder.embedded.length];
    expect(await again.precompute([docs])).toMatchObject({ encoded: 0, unchanged: 1 });
    expect([model.encoded.length, embedder.embedded.length - 1]).toEqual([before[0], before[1]! - 1]);
    expect((await titles(again, "ferry", { where: { team: "ops" } })).sort()).toEqual(["Oda", "One"]);
    expect(await again.precompute([docs])).toMatchObject({ unchanged: 4 });
  });
});

describe("the floor", () => {
  const SEA = { "keeper.txt": "Oda kept a diary of every ship.", "copper.txt": "Copper turns green by the sea." };

  test("below it nothing is found, and ask generates nothing", async () => {
    const { openAgain, model } = await corpusOf(SEA);
    const corpus = await openAgain({ embedder: { ...fakeEmbedder(), floor: 0.4 } });
    expect(await titles(corpus, "Who kept a diary?")).not.toEqual([]);
    const found = await corpus.find("Who leads Nvidia?");
    expect(found).toMatchObject({ sources: [], floor: 0.4 });
    expect(found.best_score).toBeLessThan(0.4);

    const answer = await corpus.ask("Who leads Nvidia?");
    expect({ found: answer.found, sources: answer.sources, best: answer.best_score, text: await answer.text }).toEqual({
      found: false,
      sources: [],
      best: found.best_score,
      text: "",
    });
    expect(await answer.stats).toMatchObject({ generated_tokens: 0, finish: "end" });
    expect(model.plans).toEqual([]);
    expect((await corpus.ask("Who kept a diary?")).found).toBe(true);
    expect(model.plans).toHaveLength(1);
  });

  test("a question may set its own, or none", async () => {
    const { openAgain } = await corpusOf(SEA);
    const corpus = await openAgain({ embedder: { ...fakeEmbedder(), floor: 0.4 } });
    expect(await titles(corpus, "Who leads Nvidia?", { floor: false })).toHaveLength(2);
    expect(await titles(corpus, "Who kept a diary?", { floor: 1 })).toEqual([]);
  });

  test("an embedder that was not measured has none", async () => {
    const { corpus } = await corpusOf(SEA);
    expect(await titles(corpus, "Who leads Nvidia?")).toHaveLength(2);
    expect(await titles(corpus, "Who leads Nvidia?", { floor: 0.9 })).toEqual([]);
  });
});

describe("follow-up questions", () => {
  const PLACES = {
    "bridge.txt": "The Forth Bridge is made of steel. It is 110 metres high.",
    "tower.txt": "The tower of Brenna is made of brick. It is 40 metres high.",
    "ferry.txt": "The ferry at Dollis takes four minutes.",
  };
  const history = [
    { role: "user", content: "What is the tower of Brenna made of?" },
    { role: "assistant", content: "Brick." },
  ];

  test("are understood from earlier messages", async () => {
    const { corpus } = await corpusOf(PLACES);
    expect((await titles(corpus, "And how high is it?", { history }))[0]).toBe("tower");
    expect((await titles(corpus, "And how high is it?", { history: [{ role: "user", content: "Tell me of the Forth Bridge." }] }))[0]).toBe(
      "bridge",
    );
  });

  test("a question on a new topic is found as well", async () => {
    const { corpus } = await corpusOf(PLACES);
    expect((await titles(corpus, "How long does the ferry at Dollis take?", { history }))[0]).toBe("ferry");
  });

  test("a question on a new topic is above the floor, whatever the earlier messages", async () => {
    const { openAgain } = await corpusOf(PLACES);
    const corpus = await openAgain({ embedder: { ...fakeEmbedder(), floor: 0.4 } });
    const question = "How long does the ferry at Dollis take?";
    const [alone, behind] = [
      await corpus.find(question),
      await corpus.find(question, { history: [{ role: "user", content: "Who leads Nvidia, and since when?" }] }),
    ];
    expect(behind.best_score).toBeCloseTo(alone.best_score, 10);
    expect(behind.sources[0]!.title).toBe("ferry");
  });

  test("only the last exchange is read with it, not earlier ones or instructions", () => {
    const older = [
      { role: "system", content: "Be kind." },
      { role: "user", content: "Hello." },
      { role: "assistant", content: "Hello!" },
    ];
    expect(readingsOf("And how high?", [...older, ...history]).map(({ text }) => text)).toEqual([
      "And how high?",
      "What is the tower of Brenna made of?\nBrick.\nAnd how high?",
    ]);
    expect(readingsOf("And how high?", [{ role: "system", content: "Be kind." }])).toEqual([{ text: "And how high?", weight: 1 }]);
    expect(readingsOf("Why?", [])).toEqual([{ text: "Why?", weight: 1 }]);
    expect(readingsOf("Why?", [{ role: "user", content: "long ".repeat(1_000) }])[1]!.text.length).toBeLessThan(500);
  });

  test("scores of the readings are added with their weights", () => {
    const readings = [
      { text: "", weight: 0.25 },
      { text: "", weight: 0.75 },
    ];
    expect(
      weigh(readings, [
        [
          { id: 1, score: 0.8 },
          { id: 2, score: 0.4 },
        ],
        [
          { id: 2, score: 0.6 },
          { id: 1, score: 0.2 },
        ],
      ]),
    ).toEqual([
      { id: 2, score: expect.closeTo(0.55, 10) },
      { id: 1, score: expect.closeTo(0.35, 10) },
    ]);
  });
});

describe("another embedder", () => {
  /** Vectors of another length and order: texts with the same number of letters are close. */
  const other = () => ({
    ...fakeEmbedder(),
    id: "by-length/1",
    name: "by length",
    dimensions: 2,
    embed: async (texts: readonly string[]) =>
      texts.map((text) => Float32Array.of(Math.cos(text.length / 100), Math.sin(text.length / 100))),
  });

  test("is refused by name, with the command that embeds again", async () => {
    const { corpus, dir, openAgain } = await corpusOf(FILES);
    await corpus.close();
    await expect(openAgain({ embedder: other(), embedderName: "hf:someone/by-length" })).rejects.toMatchObject({
      code: "bad_store",
      message: expect.stringMatching(
        new RegExp(`bag-of-words, not by by-length/1; .*kvsplice precompute .*/docs --store ${dir} --embedder hf:someone/by-length`),
      ),
    });
  });

  test("embeds a corpus again without encoding, and is stored", async () => {
    const { corpus, dir, openAgain, model } = await corpusOf(FILES);
    await titles(corpus, "ferry");
    const encoded = model.encoded.length;
    const progress: (readonly [number, number])[] = [];
    expect(
      await embedCorpusAgain(dir, other(), { embedderName: "hf:someone/by-length", onProgress: (...step) => progress.push(step) }),
    ).toBe(5);
    expect(progress.at(-1)).toEqual([5, 5]);
    expect(await peekCorpus(dir)).toMatchObject({ embedder: "by-length/1", embedderName: "hf:someone/by-length" });
    const retrieved = () => corpus.retrieve("ferry").catch((error: unknown) => error);
    // LMDB sees others' writes some milliseconds later.
    await expect.poll(retrieved).toMatchObject({ code: "bad_store", message: expect.stringContaining("open it again") });

    const again = await openAgain({ embedder: other() });
    expect(await titles(again, "The ferry got a bell.")).toHaveLength(5);
    expect(model.encoded.length).toBe(encoded);
    expect(await embedCorpusAgain(dir, other())).toBe(0);
    expect((await peekCorpus(dir))!.embedderName).toBe("hf:someone/by-length");
  });

  test("cancelling leaves the corpus as it was", async () => {
    const { dir, corpus } = await corpusOf(FILES);
    const failing = { ...other(), embed: async () => Promise.reject(new Error("cancelled")) };
    await expect(embedCorpusAgain(dir, failing)).rejects.toThrow("cancelled");
    expect(await titles(corpus, "ferry bell", { topK: 1 })).toEqual(["Two"]);
  });
});
