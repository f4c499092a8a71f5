import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Embedder } from "../../rag/index.js";
import { Indexes, type Search } from "../../rag/retrieve/indexes.js";

export type Passage = { readonly id: string; readonly title: string; readonly text: string };
export type Question = {
  readonly question: string;
  readonly answers: readonly string[];
  readonly gold: string;
  readonly distractors: readonly string[];
  readonly source: string;
};

const BATCH = 256;

export function read<T>(folder: string, name: string): T[] {
  return gunzipSync(readFileSync(join(folder, `${name}.jsonl.gz`)))
    .toString("utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}

/** Every set is ordered by the hash of its questions, so that any part of it is a random sample. */
export function drawn<T extends { readonly question: string }>(items: readonly T[], count: number): T[] {
  const hash = ({ question }: T) => createHash("sha256").update(question).digest("hex");
  return [...items].sort((a, b) => (hash(a) < hash(b) ? -1 : 1)).slice(0, count);
}

/** Vectors of texts, kept in the folder, since those of 13,700 passages take ten minutes. */
export async function vectorsOf(
  texts: readonly string[],
  as: "question" | "document",
  embedder: Embedder,
  cache: string,
): Promise<Float32Array[]> {
  const { dimensions } = embedder;
  const name = createHash("sha256")
    .update(JSON.stringify([embedder.id, as, texts]))
    .digest("hex")
    .slice(0, 24);
  const path = join(cache, `${name}.f32`);
  if (!existsSync(path)) {
    const all = new Float32Array(texts.length * dimensions);
    for (let start = 0; start < texts.length; start += BATCH) {
      const some = await embedder.embed(texts.slice(start, start + BATCH), { as });
      some.forEach((vector, index) => all.set(vector, (start + index) * dimensions));
      if (texts.length > 2 * BATCH) process.stderr.write(`\r${Math.min(start + BATCH, texts.length)} of ${texts.length} texts embedded`);
    }
    if (texts.length > 2 * BATCH) process.stderr.write("\n");
    mkdirSync(cache, { recursive: true });
    writeFileSync(path, new Uint8Array(all.buffer));
  }
  const bytes = readFileSync(path);
  const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  return texts.map((_, index) => all.subarray(index * dimensions, (index + 1) * dimensions));
}

/** Passages in the form of a corpus, with a corpus's indexes. */
export class Library {
  private constructor(
    readonly passages: readonly Passage[],
    readonly indexes: Indexes,
  ) {}

  static async open(name: string, passages: readonly Passage[], vectors: readonly Float32Array[], cache: string): Promise<Library> {
    const source = {
      id: name,
      generation: "1",
      chunkIds: () => passages.map((_, id) => id),
      chunk: (id: number) => passages[id],
      vector: (id: number) => vectors[id],
    };
    const indexes = new Indexes(source, join(cache, "indexes"));
    await indexes.refresh();
    return new Library(passages, indexes);
  }

  search(text: string, vector: Float32Array): Search {
    return { vector, worded: this.indexes.searchWords(text, 50) };
  }

  /** The rank of a passage, or -1 if it is missing. */
  placeOf(id: string): number {
    return this.passages.findIndex((passage) => passage.id === id);
  }
}
