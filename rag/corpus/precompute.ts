import { createHash } from "node:crypto";
import { lstat, readFile, stat } from "node:fs/promises";
import { basename, sep } from "node:path";

import { KvspliceError, type BlockKey, type BlockStore, type Model } from "../../engine/index.js";
import type { LoadProblem } from "../document.js";
import type { Embedder } from "../embedder.js";
import { type Listing, listFiles, type ListOptions } from "../load/list.js";
import { loadFile } from "../load/load.js";
import type { LoadOptions } from "../load/loader.js";
import { type Chunk, splitDocument } from "../split.js";
import type { FileRecord, NewChunk, Records } from "./records.js";
import { deleteUnused } from "./remove.js";
import { sideBySide } from "./side-by-side.js";
import { type BlockSupply, encodeHere } from "./supply.js";
import { documentSource } from "../prompt.js";

export type PrecomputeOptions = Pick<LoadOptions, "ocr"> & Pick<ListOptions, "followLinks"> & {
  /** Afterwards the corpus holds the named files and no others: those of earlier runs are removed, though they are there. */
  readonly prune?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each block, and after each file. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Who encodes what the store does not hold; the corpus's own model, in this process, when left out. */
  readonly supply?: BlockSupply | undefined;
};

/** How far a run has come. Its files' bytes are the measure of the whole: chunks are counted as files are loaded. */
export type Progress = {
  /** The file in work. */
  readonly path: string;
  readonly files: { readonly done: number; readonly total: number };
  readonly bytes: { readonly done: number; readonly total: number };
  /** Blocks encoded so far, and their tokens. */
  readonly encoded: number;
  readonly tokens: number;
};

/** What one run did, and what the corpus holds after it. */
export type Report = {
  /** Files that were asked for, changed or not. */
  readonly files: number;
  /** Of these, how many cost nothing, being as they were. */
  readonly unchanged: number;
  /** Of these, how many gave no text; `problems` says why. */
  readonly refused: number;
  /** What was found in folders and not read, by its kind: a suffix, `linked folders` ... */
  readonly passedOver: Readonly<Record<string, number>>;
  /** Of these, how many were elsewhere before: their chunks came along. */
  readonly moved: number;
  /** Files whose chunks were removed: gone from the disk, or pruned. */
  readonly removed: number;
  /** Blocks encoded; a block that the store had already is not among them. */
  readonly encoded: number;
  readonly problems: readonly LoadProblem[];
  /** Of the whole corpus. */
  readonly chunks: number;
  readonly tokens: number;
};

/** What a run works with. */
export type Workshop = {
  readonly records: Records;
  readonly model: Model;
  readonly store: BlockStore;
  readonly embedder: () => Promise<Embedder>;
};

type FileState = Omit<FileRecord, "chunks" | "problems">;

/**
 * A file that was written this shortly before it was looked at may be written again within the same tick of its
 * clock, so equal size and time prove nothing (the "racy" entries of git's index). FAT has the coarsest, 2 s.
 */
const CLOCK_TICK_MS = 2000;

/**
 * Brings the corpus to the present state of the files: loads, splits, embeds and encodes what is new or changed, and
 * removes what is gone from the disk. A file is committed when its blocks are stored, so a run that was killed is
 * continued by the next one; blocks that it had stored are not encoded again. Several runs at once are correct: each
 * file is as one of them stored it, and a block that one run deletes while another begins to refer to it is encoded
 * again, at the latest when an answer needs it.
 *
 * @throws KvspliceError `bad_file` for a name that does not exist, `cancelled`, `no_space`
 */
export async function precompute(
  workshop: Workshop,
  names: readonly string[],
  options: PrecomputeOptions = {},
): Promise<Report> {
  const { followLinks } = options;
  const listing = await listFiles(names, { followLinks, isKnown: (path) => workshop.records.knows(path) });
  const run = new Run(workshop, options, await sizesOf(listing.files), listing);
  await run.update(listing.files);
  await run.removeDeleted();
  await deleteUnused(workshop.records, workshop.store);
  await run.encodeMissing();
  return run.report();
}

class Run {
  private readonly problems: LoadProblem[];
  private readonly supply: BlockSupply;
  private readonly bytesTotal: number;
  /** Bytes done of each file in work. */
  private readonly bytesInWork = new Map<string, number>();
  private bytesDone = 0;
  private filesDone = 0;
  private unchanged = 0;
  private refused = 0;
  private moved = 0;
  private removed = 0;
  /** Paths of the corpus' files by what they hold; made when a new file is first seen. */
  private byHash: Map<string, string[]> | undefined;
  private encoded = 0;
  private tokens = 0;

  constructor(
    private readonly workshop: Workshop,
    private readonly options: PrecomputeOptions,
    /** Bytes of each file that was asked for. */
    private readonly sizes: ReadonlyMap<string, number>,
    private readonly listing: Listing,
  ) {
    this.problems = [...listing.problems];
    this.supply = options.supply ?? encodeHere(workshop.model, workshop.store);
    this.bytesTotal = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  async update(paths: readonly string[]): Promise<void> {
    await sideBySide(paths, this.supply.atOnce, async (path) => {
      this.checkCancelled();
      const seen = await this.look(path);
      if (seen !== undefined) await this.replace(path, seen.file, seen.bytes);
      this.filesDone++;
      this.bytesDone += this.sizes.get(path)!;
      this.bytesInWork.delete(path);
      this.tell(path);
    });
  }

  /** Removes files that were named, or lay below a folder that was, and are gone from the disk; when pruning, all that were not named. */
  async removeDeleted(): Promise<void> {
    const { records } = this.workshop;
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

  /** Blocks that the store has lost, to damage or to another run, are encoded from the tokens of their chunks. */
  async encodeMissing(): Promise<void> {
    const { records, store } = this.workshop;
    store.pin?.([...records.blockKeys()]);
    await sideBySide(records.chunkIds(), this.supply.atOnce, async (id) => {
      const chunk = records.chunk(id);
      if (chunk === undefined || (await store.has(chunk.block))) return;
      await this.encode(chunk.block, chunk.tokens);
      this.tell(chunk.path);
    });
  }

  report(): Report {
    const { unchanged, refused, moved, removed, encoded, problems } = this;
    const { passedOver } = this.listing;
    const { chunks, tokens } = this.workshop.records.totals;
    return { files: this.sizes.size, unchanged, refused, passedOver, moved, removed, encoded, problems, chunks, tokens };
  }

  /** The file's bytes and state, or undefined where it is as it was or cannot be read. */
  private async look(path: string): Promise<{ file: FileState; bytes: Uint8Array } | undefined> {
    const known = this.workshop.records.file(path);
    try {
      const { size: size_bytes, mtimeMs: modified_ms } = await stat(path);
      const state = { path, size_bytes, modified_ms, seen_ms: Date.now() };
      if (known !== undefined && isUntouched(known, state)) return this.pass(known);
      const bytes = await readFile(path);
      const file = { ...state, hash: sha256(bytes) };
      if (known === undefined) return (await this.move(file)) ? undefined : { file, bytes };
      if (known.hash !== file.hash) return { file, bytes };
      this.workshop.records.touchFile({ ...known, ...file });
      return this.pass(known);
    } catch (error) {
      if (error instanceof KvspliceError) throw error;
      const kept = known === undefined ? "" : " What was stored of it is kept.";
      if (known === undefined) this.refused++;
      this.problems.push({ path, reason: `It cannot be read (${(error as Error).message}); check its permissions.${kept}` });
      return undefined;
    }
  }

  /** Whether a file is one that the corpus knows from where it no more is: a name is part of what titles are made of. */
  private async move(file: FileState): Promise<boolean> {
    const { records } = this.workshop;
    this.byHash ??= pathsByHash(records);
    for (const path of this.byHash.get(file.hash) ?? []) {
      if (basename(path) !== basename(file.path) || !(await isGone(path)) || !records.moveFile(path, file)) continue;
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
    const { records, model, embedder } = this.workshop;
    const { documents, problems } = await loadFile(path, bytes, this.options);
    const chunks: Chunk[] = [];
    for (const document of documents) {
      for (const chunk of await splitDocument(document, { tokenizer: model.tokenizer, card: model.card, signal: this.options.signal })) chunks.push(chunk);
    }
    const texts = chunks.map(({ title, text }) => `${title}\n${text}`);
    const vectors = chunks.length === 0 ? [] : await (await embedder()).embed(texts, { signal: this.options.signal });
    const built = chunks.map((chunk, index): NewChunk => ({ ...chunk, block: model.keyOf(documentSource(model, chunk.tokens)), vector: vectors[index]! }));
    await sideBySide(built, this.supply.atOnce, async ({ block, tokens }) => {
      await this.encode(block, tokens);
      this.bytesInWork.set(path, (this.bytesInWork.get(path) ?? 0) + (this.sizes.get(path) ?? 0) / built.length);
      this.tell(path);
    });
    records.replaceFile({ ...file, problems }, built);
    this.problems.push(...problems);
    if (built.length === 0) this.refused++;
  }

  /** Sees to it that the store holds the block. */
  private async encode(block: BlockKey, tokens: readonly number[]): Promise<void> {
    this.checkCancelled();
    if (!(await this.supply.supply(block, documentSource(this.workshop.model, tokens), { signal: this.options.signal }))) return;
    this.encoded++;
    this.tokens += tokens.length;
  }

  private checkCancelled(): void {
    const { signal } = this.options;
    if (!signal?.aborted) return;
    const message = "Cancelled. What was encoded is kept; run again to go on.";
    throw new KvspliceError("cancelled", message, { cause: signal.reason });
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
  return same && known.seen_ms - known.modified_ms > CLOCK_TICK_MS;
}

async function sizesOf(files: readonly string[]): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for (const path of files) sizes.set(path, await stat(path).then(({ size }) => size, () => 0));
  return sizes;
}

async function isGone(path: string): Promise<boolean> {
  return lstat(path).then(() => false, ({ code }: NodeJS.ErrnoException) => code === "ENOENT" || code === "ENOTDIR");
}

function isWithin(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => path.startsWith(folder.endsWith(sep) ? folder : folder + sep));
}

function pathsByHash(records: Records): Map<string, string[]> {
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
