import { sep } from "node:path";

import { distance } from "fastest-levenshtein";

import { type BlockSource, KvspliceError } from "../../engine/index.js";
import type { LoadProblem } from "../document.js";
import type { Fields } from "../fields.js";
import { CorpusRecords } from "./records.js";

/** A chunk of the corpus, with its readable name. */
export type CorpusChunk = {
  /** `forth-bridge.md#2`: the shortest unique end of its file's path, and its number in the file, from 1. */
  readonly ref: string;
  /** Absolute path of its file. */
  readonly path: string;
  readonly title: string;
  /** Page on which it begins, from 1, if its file has pages. */
  readonly page?: number | undefined;
  /** Its document's metadata: front matter, the fields of a record ... */
  readonly fields?: Fields | undefined;
  readonly text: string;
  /** Token ids of the rendered chunk: its block's tokens. */
  readonly tokens: readonly number[];
};

/** A file of the corpus. */
export type CorpusFile = {
  /** The shortest unique end of its path. */
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  readonly chunks: number;
  readonly tokens: number;
  /** Which parts of it could not be read. */
  readonly problems: readonly LoadProblem[];
};

/** A file with the shortest unique end of its path, and the ids of its chunks in order. */
type NamedFile = { readonly path: string; readonly name: string; readonly ids: readonly number[] };

type Names = {
  readonly files: readonly NamedFile[];
  readonly byPath: ReadonlyMap<string, NamedFile>;
  /** Files by every end of their path: `a/b.md` has `b.md` and `a/b.md`. */
  readonly byEnd: ReadonlyMap<string, readonly NamedFile[]>;
};

/** Most files named in an error. */
const MOST_NAMED = 3;

/**
 * The chunks of a corpus by ref. A ref is enough of the end of a file's path to identify the file, with `/`
 * between its parts, then `#` and the chunk's number, which may be left out if the file has one chunk.
 */
export class Chunks {
  private known: { readonly generation: string; readonly names: Names } | undefined;

  constructor(private readonly records: CorpusRecords) {}

  /**
   * Opens a corpus to look its chunks up, without a model.
   * @throws KvspliceError `bad_store` if there is no corpus
   */
  static async open(dir: string): Promise<Chunks> {
    return new Chunks(await CorpusRecords.open(dir, undefined, false));
  }

  /** @throws KvspliceError `unknown_document` if the ref matches no chunk or several, with suggestions */
  chunk(ref: string): CorpusChunk {
    const [, end = "", number] = /^(.*?)(?:#(\d+))?$/s.exec(ref) ?? [];
    const file = this.named(ref, end, number);
    const { name, ids } = file;
    const index = number === undefined && ids.length === 1 ? 0 : Number(number) - 1;
    const chunk = this.at(file, index);
    if (chunk !== undefined) return chunk;
    if (ids.length === 0) throw unknown(ref, `\`${name}\` has no text`);
    throw unknown(
      ref,
      `\`${name}\` has ${ids.length} chunk${ids.length === 1 ? "" : "s"}, \`${name}#1\`${ids.length === 1 ? "" : ` to \`${name}#${ids.length}\``}`,
    );
  }

  /** A file by a unique end of its path. @throws KvspliceError `unknown_document` like `chunk` */
  file(name: string): CorpusFile {
    return this.describe(this.named(name, name, undefined));
  }

  /** A file's chunks, in order. @throws KvspliceError `unknown_document` like `chunk` */
  chunksOf(name: string): readonly CorpusChunk[] {
    const file = this.named(name, name, undefined);
    return file.ids.flatMap((_, index) => this.at(file, index) ?? []);
  }

  /** All files, by path. */
  *files(): Iterable<CorpusFile> {
    for (const file of this.names().files) yield this.describe(file);
  }

  /** A chunk as a block for plans, as `compilePrompt` takes its `documents`. @throws like `chunk` */
  readonly blockOf = (ref: string): BlockSource => ({ tokens: this.chunk(ref).tokens });

  /** All chunks, by path and number. */
  *all(): Iterable<CorpusChunk> {
    for (const file of this.names().files) {
      for (const index of file.ids.keys()) {
        const chunk = this.at(file, index);
        if (chunk !== undefined) yield chunk;
      }
    }
  }

  /**
   * The name by which a chunk is cited, such as `forth-bridge.md#2`.
   * @param path of the chunk's file
   * @param id of the chunk
   */
  refOf(path: string, id: number): string {
    const file = this.names().byPath.get(path);
    return withNumber(file?.name ?? path, String((file?.ids.indexOf(id) ?? 0) + 1));
  }

  /** Closes the corpus's files. */
  async close(): Promise<void> {
    await this.records.close();
  }

  private named(ref: string, end: string, number: string | undefined): NamedFile {
    const { byEnd, files } = this.names();
    const [file, ...others] = byEnd.get(end) ?? [];
    if (file === undefined) throw unknown(ref, `there is no such file in the corpus${suggestion(end, number, files)}`);
    if (others.length === 0) return file;
    const some = [file, ...others].slice(0, MOST_NAMED).map(({ name }) => `\`${withNumber(name, number)}\``);
    throw unknown(ref, `${others.length + 1} files of the corpus have this end; write ${some.join(" or ")}`);
  }

  private describe({ path, name, ids }: NamedFile): CorpusFile {
    const tokens = ids.reduce((sum, id) => sum + (this.records.chunk(id)?.tokens.length ?? 0), 0);
    return { name, path, chunks: ids.length, tokens, problems: this.records.file(path)?.problems ?? [] };
  }

  private at({ name, ids }: NamedFile, index: number): CorpusChunk | undefined {
    const id = ids[index];
    const chunk = id === undefined ? undefined : this.records.chunk(id);
    if (chunk === undefined) return undefined;
    const { path, title, page, fields, text, tokens } = chunk;
    return {
      ref: withNumber(name, String(index + 1)),
      path,
      title,
      ...(page !== undefined && { page }),
      ...(fields !== undefined && { fields }),
      text,
      tokens,
    };
  }

  private names(): Names {
    const { generation } = this.records;
    if (this.known?.generation !== generation) this.known = { generation, names: namesOf(this.records) };
    return this.known.names;
  }
}

function namesOf(records: CorpusRecords): Names {
  const paths = Array.from(records.allFiles(), ({ path, chunks }) => ({ path, ids: chunks }));
  const shared = new Map<string, number>();
  for (const { path } of paths) for (const end of endsOf(path)) shared.set(end, (shared.get(end) ?? 0) + 1);

  const files = paths
    .map(({ path, ids }): NamedFile => ({ path, ids, name: endsOf(path).find((end) => shared.get(end) === 1)! }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const byEnd = new Map<string, NamedFile[]>();
  for (const file of files) {
    for (const end of endsOf(file.path)) {
      const sharing = byEnd.get(end);
      if (sharing) sharing.push(file);
      else byEnd.set(end, [file]);
    }
  }
  return { files, byPath: new Map(files.map((file) => [file.path, file])), byEnd };
}

/** `/a/b.md` -> `b.md`, `a/b.md`, `/a/b.md`; the whole path is the end of no other. */
function endsOf(path: string): string[] {
  const parts = path.split(sep);
  return parts.map((_, index) => parts.slice(parts.length - 1 - index).join("/"));
}

function withNumber(name: string, number: string | undefined): string {
  return number === undefined ? name : `${name}#${number}`;
}

function suggestion(written: string, number: string | undefined, files: readonly NamedFile[]): string {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(written.length / 3)) + 1;
  for (const { name } of files) {
    if (Math.abs(name.length - written.length) >= bestDistance) continue;
    const edits = distance(written, name);
    if (edits < bestDistance) [best, bestDistance] = [name, edits];
  }
  return best === undefined ? "; `kvsplice chunks --store DIR` lists all chunks" : `; did you mean \`${withNumber(best, number)}\`?`;
}

/** Worded so that it fits into a diagnostic too. */
function unknown(ref: string, why: string): KvspliceError {
  return new KvspliceError("unknown_document", `no document \`${ref}\`: ${why}`);
}
