import { createHash } from "node:crypto";
import { lstat, readFile, stat } from "node:fs/promises";
import { basename, sep } from "node:path";

import { type BlockKey, type BlockStore, KvspliceError, type Model } from "../../engine/index.js";
import type { LoadProblem } from "../document.js";
import type { Embedder } from "../embed/embedder.js";
import { readerOf } from "../load/kinds.js";
import { type Listing, type ListOptions, listFiles } from "../load/list.js";
import { loadFile } from "../load/load.js";
import type { LoadOptions } from "../load/loader.js";
import { documentSource } from "../question-plan.js";
import { type Chunk, splitDocument } from "../split.js";
import { type BlockEncoder, encodeHere } from "./block-encoder.js";
import type { CorpusRecords, FileRecord, NewChunk } from "./records.js";
import { deleteUnused } from "./remove.js";
import { sideBySide } from "./side-by-side.js";

/** How to read and encode files. */
export type PrecomputeOptions = Pick<LoadOptions, "ocr"> &
  Pick<ListOptions, "followLinks"> & {
    /** Removes all other files from the corpus, even those that still exist on disk. False by default. */
    readonly prune?: boolean | undefined;
    readonly signal?: AbortSignal | undefined;
    /** Called after each block and after each file. */
    readonly onProgress?: ((progress: Progress) => void) | undefined;
    /** Encodes the blocks that the store does not have; by default the corpus's own model, in this process. */
    readonly encoder?: BlockEncoder | undefined;
  };

/** Progress of a run. It is measured in bytes of files, since chunks are known only once their file is loaded. */
export type Progress = {
  /** The current file. */
  readonly path: string;
  readonly files: { readonly done: number; readonly total: number };
  readonly bytes: { readonly done: number; readonly total: number };
  /** Blocks encoded so far, and their tokens. */
  readonly encoded: number;
  readonly tokens: number;
};

/** What one run did, and what the corpus contains afterwards. */
export type Report = {
  /** Files that were requested, changed or not. */
  readonly files: number;
  /** Of these, how many were unchanged and cost nothing. */
  readonly unchanged: number;
  /** Of these, how many had no text; `problems` says why. */
  readonly refused: number;
  /** What was skipped in folders, by kind: a suffix, `linked folders` ... */
  readonly passedOver: Readonly<Record<string, number>>;
  /** Of these, how many were moved: their chunks moved along. */
  readonly moved: number;
  /** Files whose chunks were removed, because they were deleted from disk or pruned. */
  readonly removed: number;
  /** Blocks encoded, not counting those that the store already had. */
  readonly encoded: number;
  readonly problems: readonly LoadProblem[];
  /** Of the whole corpus. */
  readonly chunks: number;
  readonly tokens: number;
};

/** Dependencies of a run. */
export type PrecomputeContext = {
  readonly records: CorpusRecords;
  readonly model: Model;
  readonly store: BlockStore;
  readonly embedder: () => Promise<Embedder>;
};

type FileState = Omit<FileRecord, "chunks" | "problems">;

/**
 * A file written this shortly before it was checked may be written again within the same tick of the file system's
 * clock, so equal size and time prove nothing (like the "racy" entries of git's index). FAT has the coarsest clock, 2 s.
 */
const CLOCK_TICK_MS = 2000;

/** Bytes of a file that count as one chunk: plain text has fewer, but many kinds have much besides text. */
const CHUNK_BYTES = 4096;

/** For a file that was read only in part because a package is missing: the next run reads it again. */
const NO_READER = 0;

/**
 * Updates the corpus to the current state of the files: loads, splits, embeds and encodes what is new or changed, and
 * removes what was deleted from disk. A file is committed once its blocks are stored, so the next run continues one that
 * was killed; stored blocks are not encoded again. Concurrent runs are safe: each file is as one of them stored it, and a
 * block that one run deletes while another begins to refer to it is encoded again, at the latest when an answer needs it.
 *
 * @throws KvspliceError `bad_file` for a name that does not exist, `cancelled`, `no_space`
 */
export async function precompute(context: PrecomputeContext, names: readonly string[], options: PrecomputeOptions = {}): Promise<Report> {
  context.records.mustBeWritable();
  const { followLinks } = options;
  const listing = await listFiles(names, { followLinks, isKnown: (path) => context.records.knows(path) });
  const run = new Run(context, options, await sizesOf(listing.files), listing);
  try {
    await run.update(listing.files);
    await run.removeDeleted();
    await deleteUnused(context.records, context.store);
    await run.encodeMissing();
  } catch (error) {
    throw run.failure ?? error;
  }
  return run.report();
}

class Run {
  /** Aborted by the first failure, which is its reason: what else is being encoded is cancelled. */
  private readonly failed = new AbortController();
  private readonly signal: AbortSignal;
  private readonly problems: LoadProblem[];
  private readonly encoder: BlockEncoder;
  private readonly bytesTotal: number;
  /** Bytes done of each current file. */
  private readonly bytesInWork = new Map<string, number>();
  private bytesDone = 0;
  private filesDone = 0;
  private unchanged = 0;
  private refused = 0;
  private moved = 0;
  private removed = 0;
  /** Paths of the corpus's files by content hash; made when a new file is first seen. */
  private byHash: Map<string, string[]> | undefined;
  private encoded = 0;
  private tokens = 0;

  constructor(
    private readonly context: PrecomputeContext,
    private readonly options: PrecomputeOptions,
    /** Bytes of each requested file. */
    private readonly sizes: ReadonlyMap<string, number>,
    private readonly listing: Listing,
  ) {
    this.problems = [...listing.problems];
    this.encoder = options.encoder ?? encodeHere(context.model, context.store);
    this.signal = AbortSignal.any([this.failed.signal, ...(options.signal ? [options.signal] : [])]);
    this.bytesTotal = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  /** Why encoding failed, if it did. */
  get failure(): unknown {
    return this.failed.signal.reason;
  }

  async update(paths: readonly string[]): Promise<void> {
    const { atOnce } = this.encoder;
    const update = async (path: string) => {
      this.checkCancelled();
      const seen = await this.look(path);
      if (seen !== undefined) await this.replace(path, seen.file, seen.bytes);
      this.filesDone++;
      this.bytesDone += this.sizes.get(path)!;
      this.bytesInWork.delete(path);
      this.tell(path);
    };
    // As many as have enough chunks together; of large ones two, so that one is read while the other is encoded.
    const weightOf = (path: string) => Math.min(Math.ceil(atOnce / 2), Math.max(1, this.sizes.get(path)! / CHUNK_BYTES));
    await sideBySide(paths, atOnce, update, weightOf);
  }

  /** Removes files that were named, or are below a named folder, but no longer exist on disk; when pruning, all that were not named. */
  async removeDeleted(): Promise<void> {
    const { records } = this.context;
    const { folders, files, gone, unreadable } = this.listing;
    const present = new Set(files);
    for (const path of Array.from(records.allFiles(), (file) => file.path)) {
      if (present.has(path) || isWithin(path, unreadable)) continue;
      const named = gone.includes(path) || isWithin(path, [...folders, ...gone]);
      if (this.options.prune || (named && (await isGone(path)))) {
        records.removeFile(path);
        this.removed++;
      }
    }
  }

  /** Blocks that the store lost, to damage or to another run, are encoded from the tokens of their chunks. */
  async encodeMissing(): Promise<void> {
    const { records, store } = this.context;
    store.pin?.([...records.blockKeys()]);
    await sideBySide(records.chunkIds(), this.encoder.atOnce, async (id) => {
      const chunk = records.chunk(id);
      if (chunk === undefined || (await store.has(chunk.block))) return;
      await this.encode(chunk.block, chunk.tokens);
      this.tell(chunk.path);
    });
  }

  report(): Report {
    const { unchanged, refused, moved, removed, encoded, problems } = this;
    const { passedOver } = this.listing;
    const { chunks, tokens } = this.context.records.totals;
    return { files: this.sizes.size, unchanged, refused, passedOver, moved, removed, encoded, problems, chunks, tokens };
  }

  /** The file's bytes and state, or undefined if it is unchanged or cannot be read. */
  private async look(path: string): Promise<{ file: FileState; bytes: Uint8Array } | undefined> {
    const known = this.context.records.file(path);
    try {
      const { size: size_bytes, mtimeMs: modified_ms } = await stat(path);
      const state = { path, size_bytes, modified_ms, seen_ms: Date.now(), reader: readerOf(path) };
      if (known !== undefined && isUntouched(known, state)) return this.pass(known);
      const bytes = await readFile(path);
      const file = { ...state, hash: sha256(bytes) };
      if (known === undefined) return (await this.move(file)) ? undefined : { file, bytes };
      if (known.hash !== file.hash || wasReadOtherwise(known)) return { file, bytes };
      await this.context.records.touchFile({ ...known, ...file });
      return this.pass(known);
    } catch (error) {
      if (error instanceof KvspliceError) throw error;
      const kept = known === undefined ? "" : " Its stored content is kept.";
      if (known === undefined) this.refused++;
      this.problems.push({ path, reason: `It cannot be read (${(error as Error).message}); check its permissions.${kept}` });
      return undefined;
    }
  }

  /** Whether the corpus knows this file from a place where it no longer is. Titles may depend on the file's name. */
  private async move(file: FileState): Promise<boolean> {
    const { records } = this.context;
    this.byHash ??= pathsByHash(records);
    for (const path of this.byHash.get(file.hash) ?? []) {
      if (basename(path) !== basename(file.path) || !(await isGone(path)) || !(await records.moveFile(path, file))) continue;
      this.moved++;
      this.pass(records.file(file.path)!);
      return true;
    }
    return false;
  }

  private pass(known: FileRecord): undefined {
    this.unchanged++;
    if (known.chunks.length === 0) this.refused++;
    this.problems.push(...known.problems);
  }

  private async replace(path: string, file: FileState, bytes: Uint8Array): Promise<void> {
    const { records, model, embedder } = this.context;
    const { documents, problems, incomplete = false } = await loadFile(path, bytes, this.options);
    if (incomplete && documents.length === 0) {
      this.problems.push(...problems);
      if (records.file(path) === undefined) this.refused++;
      return;
    }
    const chunks: (Chunk & Pick<NewChunk, "fields">)[] = [];
    for (const document of documents) {
      const { fields = {} } = document;
      const own = Object.keys(fields).length > 0 && { fields };
      for (const chunk of await splitDocument(document, { tokenizer: model.tokenizer, card: model.card, signal: this.signal }))
        chunks.push({ ...chunk, ...own });
    }
    const keyed = chunks.map((chunk) => ({ ...chunk, block: model.keyOf(documentSource(model, chunk.tokens)) }));
    const vectors = vectorsOf(records, path);
    const fresh = keyed.filter(({ block }) => !vectors.has(block));
    const embed = async () => {
      if (fresh.length === 0) return;
      const embedded = await (await embedder()).embed(fresh.map(embeddedText), { as: "document", signal: this.signal });
      fresh.forEach(({ block }, index) => vectors.set(block, embedded[index]!));
    };
    const encode = () =>
      sideBySide(keyed, this.encoder.atOnce, async ({ block, tokens }) => {
        await this.encode(block, tokens);
        this.bytesInWork.set(path, (this.bytesInWork.get(path) ?? 0) + (this.sizes.get(path) ?? 0) / keyed.length);
        this.tell(path);
      });
    await sideBySide([embed, encode], 2, (work) => work());
    const built = keyed.map((chunk): NewChunk => ({ ...chunk, vector: vectors.get(chunk.block)! }));
    await records.replaceFile({ ...file, problems, ...(incomplete && { reader: NO_READER }) }, built);
    this.problems.push(...problems);
    if (built.length === 0) this.refused++;
  }

  /** Ensures that the store has the block. */
  private async encode(block: BlockKey, tokens: readonly number[]): Promise<void> {
    this.checkCancelled();
    try {
      if (!(await this.encoder.encodeMissing(block, documentSource(this.context.model, tokens), { signal: this.signal }))) return;
    } catch (error) {
      this.failed.abort(error);
      throw error;
    }
    this.encoded++;
    this.tokens += tokens.length;
  }

  private checkCancelled(): void {
    if (!this.signal.aborted) return;
    const message = "Cancelled. Encoded blocks are kept; run again to continue.";
    throw new KvspliceError("cancelled", message, { cause: this.signal.reason });
  }

  private tell(path: string): void {
    const inWork = [...this.bytesInWork.values()].reduce((sum, bytes) => sum + bytes, 0);
    this.options.onProgress?.({
      path,
      files: { done: this.filesDone, total: this.sizes.size },
      bytes: { done: this.bytesDone + inWork, total: this.bytesTotal },
      encoded: this.encoded,
      tokens: this.tokens,
    });
  }
}

function isUntouched(known: FileRecord, now: Pick<FileRecord, "size_bytes" | "modified_ms">): boolean {
  const same = known.size_bytes === now.size_bytes && known.modified_ms === now.modified_ms;
  return same && known.seen_ms - known.modified_ms > CLOCK_TICK_MS && !wasReadOtherwise(known);
}

/** Whether a file was read by an older reader of its kind. */
export function wasReadOtherwise({ path, reader = 1 }: FileRecord): boolean {
  return reader !== readerOf(path);
}

/** The vectors of a file's chunks by block, since only a block's tokens are embedded: unchanged chunks are not embedded again. */
function vectorsOf(records: CorpusRecords, path: string): Map<BlockKey, Float32Array> {
  const vectors = new Map<BlockKey, Float32Array>();
  for (const id of records.file(path)?.chunks ?? []) {
    const [chunk, vector] = [records.chunk(id), records.vector(id)];
    if (chunk && vector) vectors.set(chunk.block, vector);
  }
  return vectors;
}

/** The part of a chunk that is embedded. */
export function embeddedText({ title, text }: Pick<Chunk, "title" | "text">): string {
  return `${title}\n${text}`;
}

async function sizesOf(files: readonly string[]): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for (const path of files)
    sizes.set(
      path,
      await stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    );
  return sizes;
}

async function isGone(path: string): Promise<boolean> {
  return lstat(path).then(
    () => false,
    ({ code }: NodeJS.ErrnoException) => code === "ENOENT" || code === "ENOTDIR",
  );
}

function isWithin(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => path.startsWith(folder.endsWith(sep) ? folder : folder + sep));
}

function pathsByHash(records: CorpusRecords): Map<string, string[]> {
  const paths = new Map<string, string[]>();
  for (const { path, hash } of records.allFiles()) {
    const same = paths.get(hash);
    if (same) same.push(path);
    else paths.set(hash, [path]);
  }
  return paths;
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
