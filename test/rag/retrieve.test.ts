import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";

import { ExactIndex } from "../../rag/retrieve/exact.js";
import { fuseByRank } from "../../rag/retrieve/fusion.js";
import { HnswIndex } from "../../rag/retrieve/hnsw.js";
import { HNSW_FROM, Indexes, type IndexSource } from "../../rag/retrieve/indexes.js";
import { KeywordIndex } from "../../rag/retrieve/keyword.js";
import { temporaryFolder } from "./temporary-folder.js";

const DIMENSIONS = 32;

/** Vectors of length 1, evenly spread, the same ones in every run (xorshift). */
function randomVectors(count: number, seed = 1): Float32Array[] {
  let state = seed;
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32 - 0.5;
  };
  return Array.from({ length: count }, () => {
    const vector = Float32Array.from({ length: DIMENSIONS }, () => random() + random() + random());
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
      fc.property(changes, fc.integer({ min: 1, max: 20 }), (changes, count) => {
        const index = new ExactIndex(DIMENSIONS);
        const present = new Set<number>();
        for (const [adds, id] of changes) {
          if (adds) index.add(id, vectors[id]!);
          else index.remove(id);
          if (adds) present.add(id);
          else present.delete(id);
        }
        const question = randomVectors(1, 7)[0]!;
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

  test("finds at least 95 of 100 of the true nearest, before and after removals and a reload", async () => {
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

  test("scores are cosines, as the exact index has them", async () => {
    const { hnsw, exact } = await filled();
    const [near, nearest] = [hnsw.search(questions[0]!, 1)[0]!, exact.search(questions[0]!, 1)[0]!];
    expect(near.id).toBe(nearest.id);
    expect(near.score).toBeCloseTo(nearest.score, 5);
  });

  test("a missing or broken file gives no index", async () => {
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
    const index = KeywordIndex.create();
    entries.forEach((entry) => index.add(entry));
    const again = KeywordIndex.fromJSON(JSON.parse(JSON.stringify(index)));
    for (const keywords of [index, again]) {
      expect(keywords.search("Who kept the DIARY?", 5)[0]!.id).toBe(5);
      expect(keywords.search("copper", 5).map(({ id }) => id)).toEqual([3]);
      expect(keywords.search("sea", 1)).toHaveLength(1);
      expect(keywords.search("by the", 5)).toEqual([]); // function words find nothing
      keywords.remove(5);
      expect(keywords.search("diary", 5)).toEqual([]);
      expect([...keywords.ids()]).toEqual([3]);
    }
  });
});

describe("fusion by reciprocal rank", () => {
  const hits = (...ids: number[]) => ids.map((id) => ({ id, score: 0 }));

  test("a chunk's score is the sum of 1 / (60 + rank)", () => {
    expect(fuseByRank([hits(1, 2), hits(2, 3)])).toEqual([
      { id: 2, score: 1 / 62 + 1 / 61 },
      { id: 1, score: 1 / 61 },
      { id: 3, score: 1 / 62 },
    ]);
  });

  test("a ranking alone keeps its order", () => {
    expect(fuseByRank([hits(9, 4, 7), []]).map(({ id }) => id)).toEqual([9, 4, 7]);
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
  const nearestOf = (indexes: Indexes, id: number) => indexes.search(`word${id}`, vectors[id]!, 3)[0]?.id;

  test.each([50, HNSW_FROM + 10])("%d chunks: what is added is found, what is removed is not", async (count) => {
    const corpus = source(count);
    const indexes = new Indexes(corpus, await temporaryFolder(), DIMENSIONS);
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42);
    corpus.entries.delete(42);
    corpus.entries.set(count + 1, { title: "New", text: `word${count + 1}` });
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42); // the same generation: nothing is looked at
    corpus.generation = "2";
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).not.toBe(42);
    expect(nearestOf(indexes, count + 1)).toBe(count + 1);
  });

  test("the next process takes the files and adds only what is new", async () => {
    const folder = await temporaryFolder();
    const corpus = source(HNSW_FROM);
    await new Indexes(corpus, folder, DIMENSIONS).refresh();
    corpus.entries.set(HNSW_FROM + 1, { title: "New", text: "new" });
    corpus.entries.delete(7);
    reads.mockClear();
    const indexes = new Indexes(corpus, folder, DIMENSIONS);
    await indexes.refresh();
    expect(reads).toHaveBeenCalledTimes(1);
    expect(nearestOf(indexes, 42)).toBe(42);
    expect(nearestOf(indexes, 7)).not.toBe(7);
    expect(await readdir(folder)).toHaveLength(2); // no draft is left
  });

  test("missing, broken and foreign files are made again", async () => {
    const folder = await temporaryFolder();
    const corpus = source(HNSW_FROM);
    await new Indexes(corpus, folder, DIMENSIONS).refresh();
    for (const file of await readdir(folder)) await writeFile(join(folder, file), "broken");
    const indexes = new Indexes(corpus, folder, DIMENSIONS);
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42);

    const other = new Indexes(source(3, "other"), folder, DIMENSIONS);
    await other.refresh();
    expect(other.search("word42", vectors[42]!, 5).map(({ id }) => id).sort()).toEqual([0, 1, 2]);
  });

  test("where the files cannot be written, the indexes work", async () => {
    const folder = join(await temporaryFolder(), "file");
    await writeFile(folder, "");
    const indexes = new Indexes(source(10), folder, DIMENSIONS);
    await indexes.refresh();
    expect(nearestOf(indexes, 4)).toBe(4);
    await rm(folder);
  });

  test("where hnswlib-node is not installed, the exact scan takes its place", async () => {
    vi.doMock("hnswlib-node", () => {
      throw new Error("Cannot find module");
    });
    expect(await HnswIndex.create(DIMENSIONS)).toBeUndefined();
    const indexes = new Indexes(source(HNSW_FROM), await temporaryFolder(), DIMENSIONS);
    await indexes.refresh();
    expect(nearestOf(indexes, 42)).toBe(42);
    vi.doUnmock("hnswlib-node");
  });
});
