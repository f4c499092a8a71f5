import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { join, sep } from "node:path";

import { open, type Database, type RootDatabase } from "lmdb";

import { checkLmdbFile, isOpenable, KvspliceError, makeFolder, type BlockKey, type Precision, type Quantization } from "../../engine/index.js";
import type { LoadProblem } from "../document.js";
import { Base } from "./base.js";

/** One file as it was when its chunks were stored. */
export type FileRecord = {
  /** Absolute; on disk as the corpus's base writes it. */
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
  /** Absolute path of its file; on disk as the corpus's base writes it. */
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
export type Writer = {
  readonly model: string;
  readonly modelName: string;
  /** How the model can be opened again; undefined for the one that kvsplice carries, or where it was not told. */
  readonly modelSource?: ModelSource | undefined;
  readonly precision: Precision;
  readonly embedder: string;
};

/** A model's name or path (`pullModel`), and what it is opened with. */
export type ModelSource = { readonly name: string; readonly quantize?: Quantization; readonly contextLength?: number; readonly adapter?: string };

type Meta = Writer & { readonly format: number; readonly id: string };

export type Totals = { readonly files: number; readonly chunks: number; readonly tokens: number };

/** Raised when records are no longer read as they were. */
const FORMAT = 3;

/** The same with absolute paths; brought up to date when it is opened. */
const FORMAT_OF_ABSOLUTE_PATHS = 2;

const FILE = "corpus.lmdb";

/** LMDB reports a write that a full disk cut short as an input/output error. */
const WRITE_FAILURE = /no space|input\/output error|quota|MDB_MAP_FULL/i;

function keyOfWritten(path: string): string {
  return createHash("sha256").update(path).digest("hex");
}

function isSameWriter(a: Writer, b: Writer): boolean {
  return a.model === b.model && a.precision === b.precision && a.embedder === b.embedder;
}

/**
 * The corpus on disk: one LMDB environment. A file's chunks are replaced in one transaction, so that a reader, or the
 * run after a kill, sees all of a file or what it was before. LMDB lets one process write at a time and the others wait.
 *
 *     files    sha256 of path -> FileRecord       the path as it is written down
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

  private readonly base: Base;
  /** Of the corpus that this writer opened; an empty one may become another's. */
  private claimed: string | undefined;

  private constructor(
    private readonly root: RootDatabase,
    dir: string,
  ) {
    this.base = new Base(dir);
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
      makeFolder(dir);
      checkLmdbFile(join(dir, FILE));
      records = new Records(open({ path: join(dir, FILE), noSubdir: true }), dir);
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
    const records = new Records(open({ path, noSubdir: true, readOnly: true }), dir);
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

  /** How an audit found that its documents are best linked, as `linkText` writes it; undefined where there was none. */
  get link(): string | undefined {
    return this.meta.get("link") as string | undefined;
  }

  noteLink(link: string): void {
    this.commit(() => this.meta.putSync("link", link));
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

  /** @param path absolute */
  file(path: string): FileRecord | undefined {
    const file = this.files.get(this.keyOf(path));
    return file && this.read(file);
  }

  *allFiles(): Iterable<FileRecord> {
    for (const { value } of this.files.getRange()) yield this.read(value);
  }

  /** Whether a file of the corpus has this absolute path, or lies in a folder that has it. */
  knows(path: string): boolean {
    if (this.file(path) !== undefined) return true;
    const below = path.endsWith(sep) ? path : path + sep;
    for (const file of this.allFiles()) if (file.path.startsWith(below)) return true;
    return false;
  }

  /** A path as it is written down, and back. */
  written(path: string): string {
    return this.base.written(path);
  }

  absolute(written: string): string {
    return this.base.absolute(written);
  }

  chunk(id: number): ChunkRecord | undefined {
    const chunk = this.chunks.get(id);
    return chunk && { ...chunk, path: this.base.absolute(chunk.path) };
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
  touchFile(file: FileRecord): void {
    const key = this.keyOf(file.path);
    this.commit(() => {
      if (this.files.get(key)?.hash === file.hash) this.files.putSync(key, this.write(file));
    });
  }

  /** Gives the chunks of a file that is elsewhere now to what it has become; nothing where another process was sooner. */
  moveFile(from: string, file: Omit<FileRecord, "chunks" | "problems">): boolean {
    const [before, after] = [this.keyOf(from), this.keyOf(file.path)];
    return this.commit(() => {
      const known = this.files.get(before);
      if (known?.hash !== file.hash || this.files.doesExist(after)) return false;
      const moved = this.write({ ...known, ...file });
      this.files.removeSync(before);
      this.files.putSync(after, moved);
      for (const id of known.chunks) {
        const chunk = this.chunks.get(id);
        if (chunk !== undefined) this.chunks.putSync(id, { ...chunk, path: moved.path });
      }
      this.changed();
      return true;
    });
  }

  /** Puts a file's chunks in the place of those that it had. */
  replaceFile(file: Omit<FileRecord, "chunks">, chunks: readonly NewChunk[]): void {
    const key = this.keyOf(file.path);
    this.commit(() => {
      this.mustBeOurs();
      this.dropChunks(this.files.get(key)?.chunks ?? []);
      const first = this.count("next");
      const ids = chunks.map((chunk, index) => this.addChunk(first + index, this.written(file.path), chunk));
      this.meta.putSync("next", first + chunks.length);
      this.files.putSync(key, this.write({ ...file, chunks: ids }));
      this.changed();
    });
  }

  /** @param path absolute */
  removeFile(path: string): void {
    const key = this.keyOf(path);
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

  /** LMDB's keys are shorter than a path may be. */
  private keyOf(path: string): string {
    return keyOfWritten(this.base.written(path));
  }

  private read(file: FileRecord): FileRecord {
    const path = this.base.absolute(file.path);
    return { ...file, path, problems: file.problems.map((problem) => ({ ...problem, path })) };
  }

  private write(file: FileRecord): FileRecord {
    const path = this.base.written(file.path);
    return { ...file, path, problems: file.problems.map((problem) => ({ ...problem, path })) };
  }

  /** What all files are in, or the one file. */
  private commonPath(): string {
    const paths = Array.from(this.allFiles(), ({ path }) => path.split(sep));
    const [first = []] = paths;
    const differs = first.findIndex((part, i) => paths.some((path) => path[i] !== part));
    return (differs < 0 ? first : first.slice(0, differs)).join(sep) || sep;
  }

  private mustBeOurs(): void {
    if (this.claimed === undefined || this.id === this.claimed) return;
    throw new KvspliceError("bad_store", "Another model has begun to write this corpus, which was empty, meanwhile; precompute into another folder.");
  }

  /** Writes the paths of a corpus anew, as its base has them. */
  private rewritePaths(): void {
    for (const { key, value } of [...this.files.getRange()]) {
      const file = this.write(value);
      this.files.removeSync(key);
      this.files.putSync(keyOfWritten(file.path), file);
    }
    for (const id of this.chunkIds()) {
      const chunk = this.chunks.get(id)!;
      this.chunks.putSync(id, { ...chunk, path: this.base.written(chunk.path) });
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
      const isOld = found?.format === FORMAT_OF_ABSOLUTE_PATHS;
      if (isOld) this.rewritePaths();
      const known = isOld ? { ...found, format: FORMAT } : found;
      const ours = writer !== undefined && (known === undefined || this.isVacant(known)) && !(known && isSameWriter(known, writer));
      const meta: Meta | undefined = ours ? { ...writer, format: FORMAT, id: randomUUID() } : known;
      if (meta !== found) this.meta.putSync("meta", meta);
      return meta;
    });
    if (meta === undefined) return;
    const elsewhere = "or precompute into another folder";
    if (meta.format !== FORMAT) {
      throw new KvspliceError("bad_store", `The corpus in ${dir} has format ${meta.format}, this kvsplice reads ${FORMAT}; update kvsplice, ${elsewhere}.`);
    }
    if (writer === undefined) return;
    if (meta.model !== writer.model && meta.modelName === writer.modelName) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} was encoded by a former kvsplice, or by another file of ${writer.modelName}, and its blocks are of no use to this one. ` +
          `Encode its documents again, into another folder: kvsplice precompute ${this.commonPath()} --store ${dir}.new${writer.modelSource ? ` --model ${writer.modelSource.name}` : ""}`,
      );
    }
    if (meta.model !== writer.model) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} was written by the model ${meta.modelName} (${meta.model.slice(0, 12)}), not by ` +
          `${writer.modelName} (${writer.model.slice(0, 12)}); use that model, ${elsewhere}.`,
      );
    }
    // The model may have been moved, or fetched under another name.
    if (writer.modelSource && JSON.stringify(writer.modelSource) !== JSON.stringify(meta.modelSource)) {
      this.commit(() => this.meta.putSync("meta", { ...meta, modelSource: writer.modelSource } satisfies Meta));
    }
    if (meta.precision !== writer.precision) {
      throw new KvspliceError("bad_store", `The corpus in ${dir} keeps its KV as ${meta.precision}, not as ${writer.precision}; use that precision, ${elsewhere}.`);
    }
    if (meta.embedder !== writer.embedder) {
      throw new KvspliceError("bad_store", `The corpus in ${dir} was embedded by ${meta.embedder}, not by ${writer.embedder}; use that embedder, ${elsewhere}.`);
    }
    this.claimed = meta.id;
  }

  /** A corpus without chunks is nobody's: whoever opens it next writes it. */
  private isVacant({ format }: Meta): boolean {
    return format === FORMAT && this.totals.chunks === 0;
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
