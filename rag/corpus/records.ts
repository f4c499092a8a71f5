import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { join, sep } from "node:path";

import { type Database, open, type RootDatabase } from "lmdb";

import {
  type BlockKey,
  CommonCommit,
  checkLmdbFile,
  DEFAULT_ENCODING,
  type Encoding,
  isOpenable,
  KvspliceError,
  type Model,
  makeFolder,
  mayWriteLmdb,
  type Precision,
  type Quantization,
} from "../../engine/index.js";
import type { LoadProblem } from "../document.js";
import { MINILM_ID } from "../embed/minilm.js";
import type { Fields } from "../fields.js";
import { Base } from "./base.js";

/** One file as it was when its chunks were stored. */
export type FileRecord = {
  /** Absolute; on disk in the form of the corpus's base. */
  readonly path: string;
  /** sha256 of its bytes, hex. */
  readonly hash: string;
  readonly size_bytes: number;
  readonly modified_ms: number;
  /** When size and time were read. */
  readonly seen_ms: number;
  readonly chunks: readonly number[];
  /** Reported again by every run, although the file is not loaded again. */
  readonly problems: readonly LoadProblem[];
  /** Version of the reader: a file read by an older one is read again by the next run. 1 if absent. */
  readonly reader?: number | undefined;
};

export type ChunkRecord = {
  /** Absolute path of its file; on disk in the form of the corpus's base. */
  readonly path: string;
  readonly title: string;
  readonly text: string;
  /** Token ids of the rendered chunk: its block's tokens. */
  readonly tokens: readonly number[];
  readonly block: BlockKey;
  /** Page on which it begins, from 1, if its file has pages. */
  readonly page?: number | undefined;
  /** Its document's metadata. */
  readonly fields?: Fields | undefined;
};

export type NewChunk = Omit<ChunkRecord, "path"> & { readonly vector: Float32Array };

/** What wrote the corpus; its vectors and blocks are of no use to any other model or embedder. */
export type Writer = {
  readonly model: string;
  readonly modelName: string;
  /** How the model can be opened again; undefined for the included model, or if unknown. */
  readonly modelSource?: ModelSource | undefined;
  readonly precision: Precision;
  /** How its blocks are encoded; part of the model's id. `exact` if absent. */
  readonly encoding?: Encoding | undefined;
  /** Its id. */
  readonly embedder: string;
  /** The name by which `loadEmbedder` loads it; undefined for MiniLM, or if unknown. */
  readonly embedderName?: string | undefined;
};

/** The fields that identify the model. */
export type WriterModel = Pick<Model, "id" | "name" | "encoding">;

/** A writer that accepts the corpus's embedder. */
export type Claim = Omit<Writer, "embedder"> & { readonly embedder?: string | undefined };

/** A model's name or path (`pullModel`), and its options. */
export type ModelSource = {
  readonly name: string;
  readonly quantize?: Quantization;
  readonly contextLength?: number;
  readonly adapters?: readonly AdapterSource[];
};

/** An adapter's name or path (`pullAdapter`), and the factor for its own scale. */
export type AdapterSource = { readonly name: string; readonly scale?: number };

type Meta = Writer & { readonly format: number; readonly id: string };

/** How much a corpus contains. */
export type Totals = { readonly files: number; readonly chunks: number; readonly tokens: number };

/** Incremented when the format of records changes. */
const FORMAT = 3;

/** The same with absolute paths; updated when it is opened. */
const FORMAT_OF_ABSOLUTE_PATHS = 2;

const FILE = "corpus.lmdb";

/** LMDB reports a write cut short by a full disk as an input/output error. */
const WRITE_FAILURE = /no space|input\/output error|quota|MDB_MAP_FULL/i;

function keyOfWritten(path: string): string {
  return createHash("sha256").update(path).digest("hex");
}

function isSameWriter(a: Writer, b: Writer): boolean {
  return a.model === b.model && a.precision === b.precision && a.embedder === b.embedder;
}

function bytesOf(vector: Float32Array): Buffer {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
}

/**
 * The corpus on disk: one LMDB environment. A file's chunks are replaced in one transaction, so that a reader, or the
 * run after a kill, sees a file either before or after a change. LMDB lets one process write at a time; others wait.
 *
 *     files    sha256 of path -> FileRecord       the path as stored
 *     chunks   id             -> ChunkRecord      ids count up and are never reused
 *     vectors  id             -> float32 [dimensions]
 *     blocks   block key      -> number of chunks that refer to it
 *     dropped  block key      -> true: no chunk referred to it when this was written; the store may still have it
 *     meta     "meta", "next" (chunk id), "generation" (changes with every commit), "tokens" (of all chunks)
 */
export class CorpusRecords {
  private readonly files: Database<FileRecord, string>;
  private readonly chunks: Database<ChunkRecord, number>;
  private readonly vectors: Database<Buffer, number>;
  private readonly blocks: Database<number, BlockKey>;
  private readonly dropped: Database<true, BlockKey>;
  private readonly meta: Database<unknown, string>;

  private readonly common: CommonCommit;
  private readonly base: Base;
  /** Id of the corpus that this writer opened; an empty corpus may become another writer's. */
  private claimed: string | undefined;

  private constructor(
    private readonly root: RootDatabase,
    private readonly dir: string,
    private readonly readOnly: boolean,
  ) {
    this.base = new Base(dir);
    this.files = root.openDB({ name: "files" });
    this.chunks = root.openDB({ name: "chunks" });
    this.vectors = root.openDB({ name: "vectors", encoding: "binary" });
    this.blocks = root.openDB({ name: "blocks" });
    this.dropped = root.openDB({ name: "dropped" });
    this.meta = root.openDB({ name: "meta" });
    this.common = new CommonCommit(root);
  }

  /**
   * @param writer the model and embedder that will write to it; not needed to read only the records
   * @throws KvspliceError `bad_store` if there is none and `create` is not set, or if it is another writer's. One that this
   *   user may only read is opened read-only and refuses changes
   */
  static async open(dir: string, writer: Claim | undefined, create: boolean): Promise<CorpusRecords> {
    if (!create && !existsSync(join(dir, FILE))) {
      throw new KvspliceError("bad_store", `There is no corpus in ${dir}; precompute one: kvsplice precompute FILES --store ${dir}`);
    }
    let records: CorpusRecords;
    try {
      makeFolder(dir);
      const path = join(dir, FILE);
      checkLmdbFile(path);
      const readOnly = existsSync(path) && !mayWriteLmdb(path);
      records = new CorpusRecords(open({ path, noSubdir: true, readOnly }), dir, readOnly);
    } catch (cause) {
      const why = (cause as Error).message;
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} cannot be opened (${why}); check the folder, or precompute into another.`,
        { cause },
      );
    }
    try {
      records.claim(dir, writer);
    } catch (error) {
      await records.close();
      throw error;
    }
    return records;
  }

  /** A corpus's description for anyone without its model; undefined if there is none. */
  static async peek(dir: string): Promise<(Totals & Writer) | undefined> {
    const path = join(dir, FILE);
    if (!existsSync(path) || !isOpenable(path)) return undefined;
    const records = new CorpusRecords(open({ path, noSubdir: true, readOnly: true }), dir, true);
    try {
      return records.writer && { ...records.totals, ...records.writer };
    } finally {
      await records.close();
    }
  }

  /**
   * Checks, before a model is loaded, that it may open the corpus in a folder; accepts one without chunks or of another format.
   * @throws KvspliceError `bad_store` for a model other than the one that wrote it
   */
  static async mustBeWrittenBy(dir: string, model: WriterModel, source: ModelSource | undefined): Promise<void> {
    const path = join(dir, FILE);
    if (!existsSync(path) || !isOpenable(path)) return;
    const records = new CorpusRecords(open({ path, noSubdir: true, readOnly: true }), dir, true);
    try {
      const meta = records.meta.get("meta") as Meta | undefined;
      if (meta?.format === FORMAT && records.totals.chunks > 0) records.mustBeWrittenBy(dir, model, source, meta);
    } finally {
      await records.close();
    }
  }

  private mustBeWrittenBy(dir: string, { id, name, encoding }: WriterModel, source: ModelSource | undefined, meta: Meta): void {
    if (meta.model === id) return;
    const encoded = meta.encoding ?? DEFAULT_ENCODING;
    if (encoded !== encoding) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} has documents encoded as ${encoded}, not ${encoding}; leave out --encoding, or precompute into another folder.`,
      );
    }
    if (meta.modelName === name) {
      const again = `kvsplice precompute ${this.commonPath()} --store ${dir}.new${source ? ` --model ${source.name}` : ""}`;
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} was encoded by an older kvsplice or with another file of ${name}, so its blocks cannot be used. Encode its documents again, into another folder: ${again}`,
      );
    }
    throw new KvspliceError(
      "bad_store",
      `The corpus in ${dir} was made with the model ${meta.modelName} (${meta.model.slice(0, 12)}), not with ${name} (${id.slice(0, 12)}); use that model, or precompute into another folder.`,
    );
  }

  get id(): string {
    return (this.meta.get("meta") as Meta).id;
  }

  get writer(): Writer {
    return this.meta.get("meta") as Meta;
  }

  /** The best linking found by an audit, in the form of `linkText`; undefined if there was none. */
  get link(): string | undefined {
    return this.meta.get("link") as string | undefined;
  }

  noteLink(link: string): void {
    this.commit(() => this.meta.putSync("link", link));
  }

  /** @throws KvspliceError `bad_store` if this user may not change it */
  mustBeWritable(): void {
    if (!this.readOnly) return;
    throw new KvspliceError(
      "bad_store",
      `The corpus in ${this.dir} is read-only: get permission to write its files, or precompute into another folder.`,
    );
  }

  /** Changes whenever any process changes the corpus. */
  get generation(): string {
    return String(this.meta.get("generation") ?? 0);
  }

  get totals(): Totals {
    const { entryCount: files } = this.files.getStats() as { entryCount: number };
    const { entryCount: chunks } = this.chunks.getStats() as { entryCount: number };
    return { files, chunks, tokens: this.count("tokens") };
  }

  /** Keys of the chunks' blocks, without duplicates. */
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

  /** Whether this is the absolute path of a file of the corpus, or of a folder that contains one. */
  knows(path: string): boolean {
    if (this.file(path) !== undefined) return true;
    const below = path.endsWith(sep) ? path : path + sep;
    for (const file of this.allFiles()) if (file.path.startsWith(below)) return true;
    return false;
  }

  /** A path as stored, and back. */
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

  /** Length of its vectors, by majority of the first ones; undefined if it has none. */
  get dimensions(): number | undefined {
    const lengths = Array.from(this.vectors.getRange({ limit: 9 }), ({ value }) => value.byteLength / 4).sort((a, b) => a - b);
    return lengths[lengths.length >> 1];
  }

  chunkIds(): number[] {
    return [...this.chunks.getKeys()];
  }

  /** `[dimensions]` */
  vector(id: number): Float32Array | undefined {
    const bytes = this.vectors.get(id);
    return bytes === undefined ? undefined : new Float32Array(Uint8Array.from(bytes).buffer);
  }

  /** Replaces all vectors by another embedder's; false if the corpus has changed since `generation`. */
  embedAgain(embedder: Pick<Writer, "embedder" | "embedderName">, vectors: ReadonlyMap<number, Float32Array>, generation: string): boolean {
    return this.commit(() => {
      if (this.generation !== generation) return false;
      for (const [id, vector] of vectors) this.vectors.putSync(id, bytesOf(vector));
      const { embedderName: _, ...meta } = this.meta.get("meta") as Meta;
      // A new id, since existing indexes do not match these vectors.
      const { embedderName, ...id } = embedder;
      this.meta.putSync("meta", { ...meta, ...id, ...(embedderName !== undefined && { embedderName }), id: randomUUID() } satisfies Meta);
      this.changed();
      return true;
    });
  }

  /** Records that a file was checked and is unchanged. */
  async touchFile(file: FileRecord): Promise<void> {
    const key = this.keyOf(file.path);
    await this.commitSoon(() => {
      if (this.files.get(key)?.hash === file.hash) this.files.putSync(key, this.write(file));
    });
  }

  /** Moves a file's chunks to its new path; does nothing if another process was faster. */
  moveFile(from: string, file: Omit<FileRecord, "chunks" | "problems">): Promise<boolean> {
    const [before, after] = [this.keyOf(from), this.keyOf(file.path)];
    return this.commitSoon(() => {
      const known = this.files.get(before);
      if (known?.hash !== file.hash || this.files.doesExist(after)) return false;
      const moved = this.write({ ...known, ...file, ...(known.reader !== undefined && { reader: known.reader }) });
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

  /** Replaces a file's chunks. */
  replaceFile(file: Omit<FileRecord, "chunks">, chunks: readonly NewChunk[]): Promise<void> {
    const key = this.keyOf(file.path);
    return this.commitSoon(() => {
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

  /** Blocks that no chunk refers to but the store may still have. */
  unusedBlocks(): BlockKey[] {
    return this.commit(() => {
      const keys = [...this.dropped.getKeys()];
      const used = keys.filter((key) => this.blocks.doesExist(key));
      for (const key of used) this.dropped.removeSync(key);
      return keys.filter((key) => !used.includes(key));
    });
  }

  /** Records that the store no longer has the blocks. */
  forgetBlocks(keys: readonly BlockKey[]): void {
    this.commit(() => keys.forEach((key) => this.dropped.removeSync(key)));
  }

  async close(): Promise<void> {
    this.common.flush();
    await this.root.close();
  }

  private addChunk(id: number, path: string, { vector, ...chunk }: NewChunk): number {
    this.chunks.putSync(id, { path, ...chunk });
    this.vectors.putSync(id, bytesOf(vector));
    this.blocks.putSync(chunk.block, (this.blocks.get(chunk.block) ?? 0) + 1);
    this.meta.putSync("tokens", this.count("tokens") + chunk.tokens.length);
    return id;
  }

  private dropChunks(ids: readonly number[]): void {
    for (const id of ids) {
      const chunk = this.chunks.get(id);
      if (chunk === undefined) continue; // missing in a damaged corpus under repair
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

  /** LMDB's keys are limited to less than the length of a path. */
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

  /** The folder that contains all files, or the only file. */
  private commonPath(): string {
    const paths = Array.from(this.allFiles(), ({ path }) => path.split(sep));
    const [first = []] = paths;
    const differs = first.findIndex((part, i) => paths.some((path) => path[i] !== part));
    return (differs < 0 ? first : first.slice(0, differs)).join(sep) || sep;
  }

  private mustBeOurs(): void {
    if (this.claimed === undefined || this.id === this.claimed) return;
    throw new KvspliceError(
      "bad_store",
      "Meanwhile another model began to write this corpus, or another embedder embedded it again; run again.",
    );
  }

  /** Rewrites the paths of a corpus in the form of its base. */
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

  /** The first to open a corpus becomes its writer; later ones must match. */
  private claim(dir: string, claim: Claim | undefined): void {
    const before = this.meta.get("meta") as Meta | undefined;
    const embedder = claim?.embedder ?? before?.embedder ?? MINILM_ID;
    const embedderName = claim?.embedderName ?? (embedder === before?.embedder ? before.embedderName : undefined);
    const writer: Writer | undefined = claim && { ...claim, embedder, ...(embedderName !== undefined && { embedderName }) };
    const meta = this.readOnly
      ? before
      : this.commit(() => {
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
    if (meta.format === FORMAT_OF_ABSOLUTE_PATHS) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} was written by an older kvsplice and is read-only here: have its owner open it once (kvsplice list --store ${dir}), which updates it.`,
      );
    }
    if (meta.format !== FORMAT) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} has format ${meta.format}, but this kvsplice reads ${FORMAT}; update kvsplice, ${elsewhere}.`,
      );
    }
    if (writer === undefined) return;
    this.mustBeWrittenBy(
      dir,
      { id: writer.model, name: writer.modelName, encoding: writer.encoding ?? DEFAULT_ENCODING },
      writer.modelSource,
      meta,
    );
    // The model may have been moved, or downloaded under another name.
    if (!this.readOnly && writer.modelSource && JSON.stringify(writer.modelSource) !== JSON.stringify(meta.modelSource)) {
      this.commit(() => this.meta.putSync("meta", { ...meta, modelSource: writer.modelSource } satisfies Meta));
    }
    if (meta.precision !== writer.precision) {
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} keeps its KV as ${meta.precision}, not as ${writer.precision}; use that precision, ${elsewhere}.`,
      );
    }
    if (meta.embedder !== writer.embedder) {
      const again = `kvsplice precompute ${this.commonPath()} --store ${dir} --embedder ${writer.embedderName ?? "minilm"}`;
      throw new KvspliceError(
        "bad_store",
        `The corpus in ${dir} was embedded by ${meta.embedder}, not by ${writer.embedder}; use that embedder, or embed it again, which encodes nothing: ${again}`,
      );
    }
    if (!this.readOnly && writer.embedderName !== undefined && writer.embedderName !== meta.embedderName) {
      this.commit(() =>
        this.meta.putSync("meta", { ...(this.meta.get("meta") as Meta), embedderName: writer.embedderName } satisfies Meta),
      );
    }
    this.claimed = meta.id;
  }

  /** A corpus without chunks belongs to no writer: the next to open it becomes its writer. */
  private isVacant({ format }: Meta): boolean {
    return format === FORMAT && this.totals.chunks === 0;
  }

  /** One transaction, on disk when this returns. */
  private commit<T>(change: () => T): T {
    this.mustBeWritable();
    try {
      return this.root.transactionSync(change);
    } catch (cause) {
      throw failureOf(cause);
    }
  }

  /** The same, together with other changes of this time; it is on disk when this resolves. */
  private async commitSoon<T>(change: () => T): Promise<T> {
    this.mustBeWritable();
    try {
      return await this.common.run(change);
    } catch (cause) {
      throw failureOf(cause);
    }
  }
}

function failureOf(cause: unknown): unknown {
  const { message } = cause as Error;
  if (!WRITE_FAILURE.test(message)) return cause;
  return new KvspliceError(
    "no_space",
    `The corpus cannot be written (${message}); the disk is full or failing. Everything stored so far is kept: free some space and run again.`,
    { cause },
  );
}
