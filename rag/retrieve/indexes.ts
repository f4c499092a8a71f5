import { randomUUID } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";

import { makeFolder } from "../../engine/index.js";

import { ExactIndex } from "./exact.js";
import { type Background, type Candidate, REFERENCE } from "./fusion.js";
import { HnswIndex } from "./hnsw.js";
import { type KeywordEntry, KeywordIndex, type Worded } from "./keyword.js";
import type { Hit, VectorIndex } from "./vector-index.js";

/** A search: the question's vector, and what its words found (`searchWords`). */
export type Search = { readonly vector: Float32Array; readonly worded: Worded };

/** What is indexed; it may change between searches. */
export interface IndexSource {
  /** Unique to each corpus. */
  readonly id: string;
  readonly generation: string;
  chunkIds(): number[];
  chunk(id: number): Omit<KeywordEntry, "id"> | undefined;
  vector(id: number): Float32Array | undefined;
}

/**
 * Number of vectors from which HNSW is used. Measured on one core with 384 dimensions and 50 hits: at 1,000 vectors the exact
 * scan takes 2 ms and HNSW 0.5; at 4,000 they take 6 and 1.1, a twentieth of the time to the first token. Below that, the gain
 * is not worth the 1 ms per vector to build the graph.
 */
export const HNSW_FROM = 4000;

/** A graph with a larger share of removed vectors is rebuilt. */
const MOST_DELETED = 0.5;

/** Minimum chunks that each index proposes, so that a chunk ranked low by one and high by the other is still found by both. */
const CANDIDATES = 50;

/** Pairs of chunks sampled for the background, and the fewest that are enough. */
const BACKGROUND_PAIRS = 500;
const LEAST_PAIRS = 50;

/** For a corpus of copies. */
const LEAST_DEVIATION = 0.01;

/** Entries indexed before the event loop runs. */
const TURN = 64;

/**
 * The vector and the keyword index of one corpus. They follow the corpus by its chunk ids, adding new chunks and removing
 * deleted ones, and are kept in files next to it. The files are a cache: a missing, outdated or broken one is rebuilt from
 * the corpus.
 */
export class Indexes {
  private vectors: VectorIndex | undefined;
  private keywords: KeywordIndex | undefined;
  private generation: string | undefined;
  private refreshing: Promise<void> = Promise.resolve();
  private warned = false;

  constructor(
    private readonly source: IndexSource,
    private readonly folder: string,
  ) {}

  /** Updates the indexes to the current state of the corpus. */
  refresh(): Promise<void> {
    const next = this.refreshing.then(() => this.follow());
    this.refreshing = next.catch(() => undefined);
    return next;
  }

  /** Chunks found by words only, best first: available before the question is embedded. Call `refresh` first. */
  searchWords(question: string, count: number, only?: ReadonlySet<number>): Worded {
    return (this.keywords ?? new KeywordIndex()).search(question, Math.max(CANDIDATES, count), only && ((id) => only.has(id)));
  }

  /**
   * Scores by meaning and words of all chunks that any of the searches finds by either: the same chunks for each search, in no
   * particular order. Call `refresh` first.
   */
  search(searches: readonly Search[], count: number, only?: ReadonlySet<number>): Candidate[][] {
    const most = Math.max(CANDIDATES, count);
    const found = new Set(
      searches.flatMap(({ vector, worded }) => [...this.nearest(vector, most, only), ...worded.hits].map(({ id }) => id)),
    );
    const vectors = Array.from(found, (id) => ({ id, own: this.source.vector(id) }));
    return searches.map(({ vector, worded }) =>
      vectors.map(({ id, own }) => {
        const { score, coverage } = worded.of(id);
        return { id, cosine: own === undefined ? 0 : product(vector, own), words: score, coverage };
      }),
    );
  }

  /** Cosines of unrelated chunks, from a fixed sample of pairs across the corpus. */
  background(): Background {
    const ids = this.source.chunkIds();
    const cosines: number[] = [];
    for (let pair = 0; pair < BACKGROUND_PAIRS && ids.length > 1; pair++) {
      const [a, b] = [pair * 7919, pair * 104_729 + 1].map((at) => ids[at % ids.length]!) as [number, number];
      const [left, right] = [this.source.vector(a), this.source.vector(b)];
      if (a !== b && left && right) cosines.push(product(left, right));
    }
    if (cosines.length < LEAST_PAIRS) return REFERENCE;
    const mean = cosines.reduce((sum, cosine) => sum + cosine, 0) / cosines.length;
    const deviation = Math.sqrt(cosines.reduce((sum, cosine) => sum + (cosine - mean) ** 2, 0) / cosines.length);
    return { mean, deviation: Math.max(deviation, LEAST_DEVIATION) };
  }

  /** A graph finds too few if a condition accepts few chunks; then all accepted chunks are compared. */
  private nearest(vector: Float32Array, count: number, only: ReadonlySet<number> | undefined): Hit[] {
    if (only === undefined || !(this.vectors instanceof HnswIndex) || only.size > HNSW_FROM)
      return this.vectors?.search(vector, count, only && ((id) => only.has(id))) ?? [];
    const wanted = new ExactIndex(vector.length);
    for (const id of only) {
      const own = this.source.vector(id);
      if (own !== undefined) wanted.add(id, own);
    }
    return wanted.search(vector, count);
  }

  private async follow(): Promise<void> {
    const { generation } = this.source;
    if (generation === this.generation) return;
    const live = new Set(this.source.chunkIds());

    this.keywords ??= await this.loadKeywords();
    const newWords = await follow(this.keywords, live, (keywords, id) => {
      const chunk = this.source.chunk(id);
      if (chunk !== undefined) keywords.add({ id, title: chunk.title, text: chunk.text });
    });
    if (newWords) await save(this.keywordFile, (path) => writeFile(path, JSON.stringify(this.keywords)));

    const dimensions = firstOf(live, (id) => this.source.vector(id))?.length ?? 0;
    const vectors = await this.vectorIndexFor(live, dimensions);
    const newVectors = await follow(vectors, live, (index, id) => {
      const vector = this.source.vector(id);
      if (vector !== undefined) index.add(id, vector);
    });
    if (newVectors && vectors instanceof HnswIndex) await save(this.vectorFile, (path) => vectors.save(path));
    this.vectors = vectors;
    this.generation = generation;
  }

  private async vectorIndexFor(live: ReadonlySet<number>, dimensions: number): Promise<VectorIndex> {
    const exact = () =>
      this.vectors instanceof ExactIndex && this.vectors.dimensions === dimensions ? this.vectors : new ExactIndex(dimensions);
    if (live.size < HNSW_FROM) return exact();
    const known = this.vectors instanceof HnswIndex ? this.vectors : await HnswIndex.load(this.vectorFile, dimensions);
    if (known !== undefined && known.shareBeyond(live) <= MOST_DELETED) return known;
    const graph = await HnswIndex.create(dimensions);
    if (graph === undefined) this.warnOfExactSearch(live.size);
    return graph ?? exact();
  }

  private warnOfExactSearch(vectors: number): void {
    if (this.warned) return;
    this.warned = true;
    process.emitWarning(
      `hnswlib-node is not installed or was not built, so ${vectors} vectors are searched exactly, which is slower. ` +
        "Run npm install hnswlib-node; npm 12 and pnpm must be allowed to run its install script.",
      { code: "KVSPLICE_EXACT_SEARCH" },
    );
  }

  private async loadKeywords(): Promise<KeywordIndex> {
    try {
      return KeywordIndex.fromJSON(JSON.parse(await readFile(this.keywordFile, "utf8")));
    } catch {
      return new KeywordIndex();
    }
  }

  private get keywordFile(): string {
    return join(this.folder, `keywords-${this.source.id}.json`);
  }

  private get vectorFile(): string {
    return join(this.folder, `vectors-${this.source.id}.hnsw`);
  }
}

function firstOf<T, R>(items: Iterable<T>, of: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = of(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

function product(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** Whether anything had to change. */
async function follow<Index extends { ids(): Iterable<number>; remove(id: number): void }>(
  index: Index,
  live: ReadonlySet<number>,
  add: (index: Index, id: number) => void,
): Promise<boolean> {
  const indexed = new Set(index.ids());
  const gone = [...indexed].filter((id) => !live.has(id));
  const fresh = [...live].filter((id) => !indexed.has(id));
  for (const id of gone) index.remove(id);
  for (const [done, id] of fresh.entries()) {
    if (done % TURN === TURN - 1) await setImmediate();
    add(index, id);
  }
  return gone.length + fresh.length > 0;
}

/** Written completely or not at all; if it fails, perhaps on a full disk, the next process rebuilds the index. */
async function save(path: string, write: (path: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomUUID()}`;
  try {
    makeFolder(dirname(path));
    await write(temporary);
    await rename(temporary, path);
  } catch {
    await rm(temporary, { force: true }).catch(() => undefined);
  }
}
