import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";

import { ExactIndex } from "../../rag/retrieve/exact.js";
import { type Candidate, fuse, REFERENCE } from "../../rag/retrieve/fusion.js";
import { HnswIndex } from "../../rag/retrieve/hnsw.js";
import { HNSW_FROM, Indexes, type IndexSource } from "../../rag/retrieve/indexes.js";
import { KeywordIndex } from "../../rag/retrieve/keyword.js";
import { numbersOf } from "../support/engine/models/random.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";

const DIMENSIONS = 32;

/** Vectors of length 1, evenly spread, the same ones for the same seed. */
function randomVectors(count: number, seed = 1): Float32Array[] {
  const random = { state: seed };
  return Array.from({ length: count }, () => {
    const vector = numbersOf(random, DIMENSIONS);
    const norm = Math.hypot(...vector);
    return vector.map((value) => value / norm);
  });
}

const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

describe("exact index", () => {
  test("finds the nearest by inner product, whatever was added and removed before", () => {
    const vectors = randomVectors(300);
    const changes = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 299 })), { minLength: 1, maxLength: 400 });
    fc.assert(
      fc.property(changes, fc.integer({ min: 1, max: 20 }), fc.nat(), (changes, count, seed) => {
        const index = new ExactIndex(DIMENSIONS);
        const present = new Set<number>();
        for (const [adds, id] of changes) {
          if (adds) index.add(id, vectors[id]!);
          else index.remove(id);
          if (adds) present.add(id);
          else present.delete(id);
        }
        const question = randomVectors(1, seed)[0]!;
        const expected = [...present].sort((a, b) => product(vectors[b]!, question) - product(vectors[a]!, question)).slice(0, count);
        expect(index.search(question, count).map(({ id }) => id)).toEqual(expected);
        expect(new Set(index.ids())).toEqual(present);
      }),
      { numRuns: 50 },
    );
  });
});

describe("hnsw index", () => {
  const vectors = randomVectors(3000);
  const questions = randomVectors(50, 99);

  async function filled(): Promise<{ hnsw: HnswIndex; exact: ExactIndex }> {
    const [hnsw, exact] = [(await HnswIndex.create(DIMENSIONS))!, new ExactIndex(DIMENSIONS)];
    vectors.forEach((vector, id) => {
      hnsw.add(id, vector);
      exact.add(id, vector);
    });
    return { hnsw, exact };
  }

  /** Share of the true 10 nearest that are found. */
  function recall(hnsw: HnswIndex, exact: ExactIndex): number {
    const found = questions.map((question) => {
      const near = new Set(hnsw.search(question, 10).map(({ id }) => id));
      return exact.search(question, 10).filter(({ id }) => near.has(id)).length;
    });
    return found.reduce((sum, count) => sum + count) / (questions.length * 10);
  }

  test("finds at least 95 % of the true nearest, before and after removals and a reload", async () => {
    const { hnsw, exact } = await filled();
    expect(recall(hnsw, exact)).toBeGreaterThan(0.95);
    for (let id = 0; id < 3000; id += 3) {
      hnsw.remove(id);
      exact.remove(id);
    }
    expect(recall(hnsw, exact)).toBeGreaterThan(0.95);
    const path = join(await temporaryFolder(), "graph");
    await hnsw.save(path);
    const loaded = (await HnswIndex.load(path, DIMENSIONS))!;
    for (let id = 0; id < 3000; id += 3) loaded.remove(id);
    expect(recall(loaded, exact)).toBeGreaterThan(0.95);
    expect([...loaded.ids()].sort((a, b) => a - b)).toEqual([...exact.ids()].sort((a, b) => a - b));
  });

  test("scores are cosines, like the exact index's", async () => {
    const { hnsw, exact } = await filled();
    const [near, nearest] = [hnsw.search(questions[0]!, 1)[0]!, exact.search(questions[0]!, 1)[0]!];
    expect(near.id).toBe(nearest.id);
    expect(near.score).toBeCloseTo(nearest.score, 5);
  });

  test("a missing or broken file yields no index", async () => {
    const path = join(await temporaryFolder(), "graph");
    expect(await HnswIndex.load(path, DIMENSIONS)).toBeUndefined();
    await writeFile(path, "not a graph");
    expect(await HnswIndex.load(path, DIMENSIONS)).toBeUndefined();
  });
});

describe("keyword index", () => {
  const entries = [
    { id: 3, title: "Copper roofs", text: "They turn green by the sea." },
    { id: 5, title: "Lighthouse", text: "Oda kept a diary by the sea." },
  ];

  test("ranks by words of title and text, survives its JSON, and forgets what was removed", () => {
    const index = new KeywordIndex();
    entries.forEach((entry) => index.add(entry));
    const again = KeywordIndex.fromJSON(JSON.parse(JSON.stringify(index)));
    for (const keywords of [index, again]) {
      const found = (question: string, count = 5) => keywords.search(question, count).hits.map(({ id }) => id);
      expect(found("Who kept the DIARY?")[0]).toBe(5);
      expect(found("copper roof")).toEqual([3]);
      expect(found("sea", 1)).toHaveLength(1);
      expect(found("bread")).toEqual([]);
      keywords.remove(5);
      expect(found("diary")).toEqual([]);
      expect([...keywords.ids()]).toEqual([3]);
      expect(
        KeywordIndex.fromJSON(JSON.parse(JSON.stringify(keywords)))
          .search("sea", 5)
          .hits.map(({ id }) => id),
      ).toEqual([3]);
    }
  });

  test("scores are BM25 relative to the whole question's, and coverage is the share of the question's rarity", () => {
    const index = new KeywordIndex();
    ["sea ship", "sea", "sea"].forEach((text, id) => index.add({ id, title: "", text }));
    const idf = (chunks: number) => Math.log(1 + (3 - chunks + 0.5) / (chunks + 0.5));
    const total = idf(3) + idf(1) + idf(0);
    const [best] = index.search("ship sea whale", 1).hits;
    const saturation = 1 / (1 + 1.2 * (1 - 0.75 + (0.75 * 2) / (4 / 3)));
    expect(best).toEqual({
      id: 0,
      score: expect.closeTo(((idf(3) + idf(1)) * saturation) / total, 10),
      coverage: expect.closeTo((idf(3) + idf(1)) / total, 10),
    });
    expect(index.search("ship", 1).of(2)).toEqual({ id: 2, score: 0, coverage: 0 });
  });

  test("a rare word counts more than common ones, without a list of stop words", () => {
    const index = new KeywordIndex();
    const texts = ["der die das und ist der die das", "die Fähre ist schnell", "das Brot und die Butter", "der Turm und das Meer"];
    texts.forEach((text, id) => index.add({ id, title: "", text }));
    expect(index.search("Wo ist die Fähre und was ist das?", 4).hits[0]!.id).toBe(1);
  });

  test("searches only among given chunks", () => {
    const index = new KeywordIndex();
    entries.forEach((entry) => index.add(entry));
    expect(index.search("sea", 5, (id) => id === 5).hits.map(({ id }) => id)).toEqual([5]);
  });

  test("an index in another format is rebuilt", () => {
    expect(() => KeywordIndex.fromJSON({ ...new KeywordIndex().toJSON(), format: 1 })).toThrow("format 1");
  });
});

describe("fusion", () => {
  const candidate = (id: number, cosine: number, words: number, coverage: number): Candidate => ({ id, cosine, words, coverage });

  test("a chunk's score is cosine + 0.2 BM25 + 0.3 coverage, over 1.5", () => {
    const fused = fuse([candidate(1, 0.5, 0.4, 0.6), candidate(2, 0.6, 0, 0), candidate(3, -0.1, 1, 1)]);
    expect(fused.map(({ id }) => id)).toEqual([1, 2, 3]);
    expect(fused.map(({ score }) => score)).toEqual([
      expect.closeTo(0.76 / 1.5, 10),
      expect.closeTo(0.6 / 1.5, 10),
      expect.closeTo(0.4 / 1.5, 10),
    ]);
  });

  test("one search's clear hit stays ahead of what both find only far down", () => {
    const both = Array.from({ length: 30 }, (_, id) => candidate(id, 0.3, 0.1, 0.2));
    expect(fuse([...both, candidate(99, 0.12, 0.8, 1)])[0]!.id).toBe(99);
    expect(fuse([...both, candidate(98, 0.75, 0, 0)])[0]!.id).toBe(98);
  });

  test("another encoder's cosines are scaled to the reference's mean and deviation", () => {
    const background = { mean: 0.8, deviation: REFERENCE.deviation / 4 };
    const [hit] = fuse([candidate(1, 0.8 + 0.1, 0, 0)], background);
    expect(hit!.score).toBeCloseTo((REFERENCE.mean + 0.4) / 1.5, 10);
  });
});

describe("indexes of a corpus", () => {
  type Source = IndexSource & { generation: string; readonly entries: Map<number, { title: string; text: string }> };

  const vectors = randomVectors(HNSW_FROM + 100);
  const reads = vi.fn();
  function source(count: number, id = "corpus"): Source {
    const entries = new Map(Array.from({ length: count }, (_, id) => [id, { title: `Title ${id}`, text: `word${id}` }]));
    return {
      id,
      generation: "1",
      entries,
      chunkIds: () => [...entries.keys()],
      chunk: (id) => entries.get(id),
      vector: (id) => {
        reads();
        return vectors[id];
      },
    };
  }
  function found(indexes: Indexes, id: number, only?: ReadonlySet<number>): number[] {
    const worded = indexes.searchWords(`word${id}`, 3, only);
    return fuse(indexes.search([{ vector: vectors[id]!, worded }], 3, only)[0]!).map((hit) => hit.id);
  }
  const nearestOf = (indexes: Indexes, id: number) => found(indexes, id)[0];

  test.each([50, HNSW_FROM + 10])("%d chunks: added chunks are found, removed ones are not", async (count) => {
    const corpus = source(count);
    const indexes = new Indexes(corpus, await temporaryFolder());
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42);
    corpus.entries.delete(42);
    corpus.entries.set(count + 1, { title: "New", text: `word${count + 1}` });
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42); // the same generation: nothing is checked
    corpus.generation = "2";
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).not.toBe(42);
    expect(nearestOf(indexes, count + 1)).toBe(count + 1);
  });

  test.each([50, HNSW_FROM + 10])("%d chunks: searches only among given ones, however few and far", async (count) => {
    const indexes = new Indexes(source(count), await temporaryFolder());
    await indexes.refresh();
    expect(found(indexes, 42, new Set([3, 7])).sort()).toEqual([3, 7]);
    expect(found(indexes, 42, new Set([7, 42]))[0]).toBe(42);
    expect(found(indexes, 42, new Set())).toEqual([]);
  });

  test("the next process loads the files and adds only new chunks", async () => {
    const folder = await temporaryFolder();
    const corpus = source(HNSW_FROM);
    await new Indexes(corpus, folder).refresh();
    corpus.entries.set(HNSW_FROM + 1, { title: "New", text: "new" });
    corpus.entries.delete(7);
    reads.mockClear();
    const indexes = new Indexes(corpus, folder);
    await indexes.refresh();
    expect(reads).toHaveBeenCalledTimes(2); // one of them gives the vectors' length
    expect(nearestOf(indexes, 42)).toBe(42);
    expect(nearestOf(indexes, 7)).not.toBe(7);
    expect(await readdir(folder)).toHaveLength(2); // no draft is left
  });

  test("missing, broken and foreign files are rebuilt", async () => {
    const folder = await temporaryFolder();
    const corpus = source(HNSW_FROM);
    await new Indexes(corpus, folder).refresh();
    for (const file of await readdir(folder)) await writeFile(join(folder, file), "broken");
    const indexes = new Indexes(corpus, folder);
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42);

    const other = new Indexes(source(3, "other"), folder);
    await other.refresh();
    expect(found(other, 42).sort()).toEqual([0, 1, 2]);
  });

  test("the indexes work even if the files cannot be written", async () => {
    const folder = join(await temporaryFolder(), "file");
    await writeFile(folder, "");
    const indexes = new Indexes(source(10), folder);
    await indexes.refresh();
    expect(nearestOf(indexes, 4)).toBe(4);
    await rm(folder);
  });

  test("without hnswlib-node, exact search is used, with one warning", async () => {
    vi.doMock("hnswlib-node", () => {
      throw new Error("Cannot find module");
    });
    const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    expect(await HnswIndex.create(DIMENSIONS)).toBeUndefined();
    const changing = source(HNSW_FROM);
    const indexes = new Indexes(changing, await temporaryFolder());
    await indexes.refresh();
    changing.entries.set(HNSW_FROM, { title: "One more", text: "more" });
    changing.generation = "2";
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42);
    expect(warn.mock.calls).toEqual([
      [expect.stringMatching(/4000 vectors are searched exactly.*hnswlib-node/), { code: "KVSPLICE_EXACT_SEARCH" }],
    ]);
    warn.mockRestore();
    vi.doUnmock("hnswlib-node");
  });
});
