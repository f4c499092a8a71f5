import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

import { open, type Database, type RootDatabase } from "lmdb";

import { checkLmdbFile, isOpenable, KvspliceError, type BlockKey, type Precision } from "../../engine/index.js";
import type { LoadProblem } from "../document.js";

/** One file as it was when its chunks were stored. */
export type FileRecord = {
  readonly path: string;
  /** sha256 of its bytes, hex. */
  readonly hash: string;
  readonly size_bytes: number;
  readonly modified_ms: number;
  /** When size and time were read. */
  readonly seen_ms: number;
  readonly chunks: readonly number[];
  /** Told again by every run, although the file is not loaded again. */
  readonly problems: readonly LoadProblem[];
};

export type ChunkRecord = {
  readonly path: string;
  readonly title: string;
  readonly text: string;
  /** Token ids of the rendered chunk: its block's tokens. */
  readonly tokens: readonly number[];
  readonly block: BlockKey;
  /** Page that it begins on, from 1, where its file has pages. */
  readonly page?: number | undefined;
};

export type NewChunk = Omit<ChunkRecord, "path"> & { readonly vector: Float32Array };

/** Who wrote the corpus; its vectors and blocks are of no use to others. */
export type Writer = { readonly model: string; readonly modelName: string; readonly precision: Precision; readonly embedder: string };

type Meta = Writer & { readonly format: number; readonly id: string };

export type Totals = { readonly files: number; readonly chunks: number; readonly tokens: number };

/** Raised when records are no longer read as they were. */
const FORMAT = 2;

const FILE = "corpus.lmdb";

/** LMDB reports a write that a full disk cut short as an input/output error. */
const WRITE_FAILURE = /no space|input\/output error|quota|MDB_MAP_FULL/i;

/**
 * The corpus on disk: one LMDB environment. A file's chunks are replaced in one transaction, so that a reader, or the
 * run after a kill, sees all of a file or what it was before. LMDB lets one process write at a time and the others wait.
 *
 *     files    sha256 of path -> FileRecord
 *     chunks   id             -> ChunkRecord      ids count up and are never used twice
 *     vectors  id             -> float32 [dimensions]
 *     blocks   block key      -> number of chunks that refer to it
 *     dropped  block key      -> true: no chunk referred to it when this was written; the store may still hold it
 *     meta     "meta", "next" (chunk id), "generation" (changes with every commit), "tokens" (of all chunks)
 */
export class Records {
  private readonly files: Database<FileRecord, string>;
  private readonly chunks: Database<ChunkRecord, number>;
  private readonly vectors: Database<Buffer, number>;
  private readonly blocks: Database<number, BlockKey>;
  private readonly dropped: Database<true, BlockKey>;
  private readonly meta: Database<unknown, string>;

  private constructor(private readonly root: RootDatabase) {
    this.files = root.openDB({ name: "files" });
    this.chunks = root.openDB({ name: "chunks" });
    this.vectors = root.openDB({ name: "vectors", encoding: "binary" });
    this.blocks = root.openDB({ name: "blocks" });
    this.dropped = root.openDB({ name: "dropped" });
    this.meta = root.openDB({ name: "meta" });
  }

  /**
   * @param writer who will write to it and encode with it; a reader of the records alone leaves it out
   * @throws KvspliceError `bad_store` where there is none and `create` is not set, or where it is not this writer's
   */
  static async open(dir: string, writer: Writer | undefined, create: boolean): Promise<Records> {
    if (!create && !existsSync(join(dir, FILE))) {
      throw new KvspliceError("bad_store", `There is no corpus in ${dir}; precompute one: kvsplice precompute FILES --store ${dir}`);
    }
    let records: Records;
    try {
      mkdirSync(dir, { recursive: true });
      checkLmdbFile(join(dir, FILE));
      records = new Records(open({ path: join(dir, FILE), noSubdir: true }));
    } catch (cause) {
      const why = (cause as Error).message;
      throw new KvspliceError("bad_store", `The corpus in ${dir} cannot be opened (${why}); check the folder, or precompute into another.`, { cause });
    }
    try {
      records.claim(dir, writer);
    } catch (error) {
      await records.close();
      throw error;
    }
    return records;
  }

  /** What a corpus says of itself to whoever has not its model; undefined where there is none. */
  static async peek(dir: string): Promise<(Totals & Writer) | undefined> {
    const path = join(dir, FILE);
    if (!existsSync(path) || !isOpenable(path)) return undefined;
    const records = new Records(open({ path, noSubdir: true, readOnly: true }));
    try {
      return records.writer && { ...records.totals, ...records.writer };
    } finally {
      await records.close();
    }
  }

  get id(): string {
    return (this.meta.get("meta") as Meta).id;
  }

  get writer(): Writer {
    return this.meta.get("meta") as Meta;
  }

  /** Changes whenever the corpus does, by whichever process. */
  get generation(): string {
    return String(this.meta.get("generation") ?? 0);
  }

  get totals(): Totals {
    const { entryCount: files } = this.files.getStats() as { entryCount: number };
    const { entryCount: chunks } = this.chunks.getStats() as { entryCount: number };
    return { files, chunks, tokens: this.count("tokens") };
  }

  /** Keys of the chunks' blocks, each once. */
  *blockKeys(): Iterable<BlockKey> {
    yield* this.blocks.getKeys();
  }

  /** Whether a chunk's block has this key. */
  refersTo(key: BlockKey): boolean {
    return this.blocks.doesExist(key);
  }

  file(key: string): FileRecord | undefined {
    return this.files.get(key);
  }

  *allFiles(): Iterable<[key: string, file: FileRecord]> {
    for (const { key, value } of this.files.getRange()) yield [key, value];
  }

  chunk(id: number): ChunkRecord | undefined {
    return this.chunks.get(id);
  }

  chunkIds(): number[] {
    return [...this.chunks.getKeys()];
  }

  /** `[dimensions]` */
  vector(id: number): Float32Array | undefined {
    const bytes = this.vectors.get(id);
    return bytes === undefined ? undefined : new Float32Array(Uint8Array.from(bytes).buffer);
  }

  /** Notes that a file was looked at and is what it was. */
  touchFile(key: string, file: FileRecord): void {
    this.commit(() => {
      if (this.files.get(key)?.hash === file.hash) this.files.putSync(key, file);
    });
  }

  /** Puts a file's chunks in the place of those that it had. */
  replaceFile(key: string, file: Omit<FileRecord, "chunks">, chunks: readonly NewChunk[]): void {
    this.commit(() => {
      this.dropChunks(this.files.get(key)?.chunks ?? []);
      const first = this.count("next");
      const ids = chunks.map((chunk, index) => this.addChunk(first + index, file.path, chunk));
      this.meta.putSync("next", first + chunks.length);
      this.files.putSync(key, { ...file, chunks: ids });
      this.changed();
    });
  }

  removeFile(key: string): void {
    this.commit(() => {
      this.dropChunks(this.files.get(key)?.chunks ?? []);
      this.files.removeSync(key);
      this.changed();
    });
  }

  /** Blocks that no chunk refers to and that the store may still hold. */
  unusedBlocks(): BlockKey[] {
    return this.commit(() => {
      const keys = [...this.dropped.getKeys()];
      const used = keys.filter((key) => this.blocks.doesExist(key));
      for (const key of used) this.dropped.removeSync(key);
      return keys.filter((key) => !used.includes(key));
    });
  }

  /** Notes that the store no longer holds the blocks. */
  forgetBlocks(keys: readonly BlockKey[]): void {
    this.commit(() => keys.forEach((key) => this.dropped.removeSync(key)));
  }

  async close(): Promise<void> {
    await this.root.close();
  }

  private addChunk(id: number, path: string, { vector, ...chunk }: NewChunk): number {
    this.chunks.putSync(id, { path, ...chunk });
    this.vectors.putSync(id, Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength));
    this.blocks.putSync(chunk.block, (this.blocks.get(chunk.block) ?? 0) + 1);
    this.meta.putSync("tokens", this.count("tokens") + chunk.tokens.length);
    return id;
  }

  private dropChunks(ids: readonly number[]): void {
    for (const id of ids) {
      const chunk = this.chunks.get(id);
      if (chunk === undefined) continue; // of a damaged corpus that is repaired
      const others = (this.blocks.get(chunk.block) ?? 1) - 1;
      if (others > 0) this.blocks.putSync(chunk.block, others);
      else {
        this.blocks.removeSync(chunk.block);
        this.dropped.putSync(chunk.block, true);
      }
      this.chunks.removeSync(id);
      this.vectors.removeSync(id);
      this.meta.putSync("tokens", this.count("tokens") - chunk.tokens.length);
    }
  }

  private changed(): void {
    this.meta.putSync("generation", this.count("generation") + 1);
  }

  private count(name: "next" | "generation" | "tokens"): number {
    return (this.meta.get(name) as number | undefined) ?? 0;
  }

  /** The first to open a corpus is its writer; later ones must be the same. */
  private claim(dir: string, writer: Writer | undefined): void {
    const meta = this.commit(() => {
      const found = this.meta.get("meta") as Meta | undefined;
      if (found === undefined && writer) this.meta.putSync("meta", { ...writer, format: FORMAT, id: randomUUID() } satisfies Meta);
      return found;
    });
    if (meta === undefined) return;
    const elsewhere = "or precompute into another folder";
    if (meta.format !== FORMAT) {
      throw new KvspliceError("bad_store", `The corpus in ${dir} has format ${meta.format}, this kvsplice reads ${FORMAT}; update kvsplice, ${elsewhere}.`);
    }
    if (writer === undefined) return;
    if (meta.model !== writer.model) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} was written by the model ${meta.modelName} (${meta.model.slice(0, 12)}), not by ` +
          `${writer.modelName} (${writer.model.slice(0, 12)}); use that model, ${elsewhere}.`,
      );
    }
    if (meta.precision !== writer.precision) {
      throw new KvspliceError("bad_store", `The corpus in ${dir} keeps its KV as ${meta.precision}, not as ${writer.precision}; use that precision, ${elsewhere}.`);
    }
    if (meta.embedder !== writer.embedder) {
      throw new KvspliceError("bad_store", `The corpus in ${dir} was embedded by ${meta.embedder}, not by ${writer.embedder}; use that embedder, ${elsewhere}.`);
    }
  }

  /** One transaction, on disk when it returns. */
  private commit<T>(change: () => T): T {
    try {
      return this.root.transactionSync(change);
    } catch (cause) {
      const { message } = cause as Error;
      if (!WRITE_FAILURE.test(message)) throw cause;
      throw new KvspliceError("no_space", `The corpus cannot be written (${message}); the disk is full or failing. What was stored before is kept: free some space and run again.`, { cause });
    }
  }
}
