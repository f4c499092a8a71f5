import { sep } from "node:path";

import { distance } from "fastest-levenshtein";

import { KvspliceError, type BlockSource } from "../../engine/index.js";
import type { LoadProblem } from "../document.js";
import { Records } from "./records.js";

/** A chunk of the corpus, with the name by which people call it. */
export type CorpusChunk = {
  /** `forth-bridge.md#2`: as much of the end of its file's path as no other file has, and its number there, from 1. */
  readonly ref: string;
  /** Absolute path of its file. */
  readonly path: string;
  readonly title: string;
  /** Page that it begins on, from 1, where its file has pages. */
  readonly page?: number | undefined;
  readonly text: string;
  /** Token ids of the rendered chunk: its block's tokens. */
  readonly tokens: readonly number[];
};

/** A file of the corpus. */
export type CorpusFile = {
  /** As much of the end of its path as no other file has. */
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  readonly chunks: number;
  readonly tokens: number;
  /** What could not be read of it. */
  readonly problems: readonly LoadProblem[];
};

/** A file with the shortest end of its path that no other file has, and the ids of its chunks in their order. */
type NamedFile = { readonly path: string; readonly name: string; readonly ids: readonly number[] };

type Names = {
  readonly files: readonly NamedFile[];
  readonly byPath: ReadonlyMap<string, NamedFile>;
  /** By every end of a path: `a/b.md` has `b.md` and `a/b.md`. */
  readonly byEnd: ReadonlyMap<string, readonly NamedFile[]>;
};

/** Files that an error names. */
const MOST_NAMED = 3;

/**
 * The chunks of a corpus by refs. A ref is as much of the end of a file's path as says which file is meant, with `/`
 * between its parts, then `#` and the chunk's number, which may be left out where the file has one chunk.
 */
export class Chunks {
  private known: { readonly generation: string; readonly names: Names } | undefined;

  constructor(private readonly records: Records) {}

  /**
   * Opens a corpus to look its chunks up, without a model.
   * @throws KvspliceError `bad_store` where there is no corpus
   */
  static async open(dir: string): Promise<Chunks> {
    return new Chunks(await Records.open(dir, undefined, false));
  }

  /** @throws KvspliceError `unknown_document` for a ref of no chunk or of several, with those that were likely meant */
  chunk(ref: string): CorpusChunk {
    const [, end = "", number] = /^(.*?)(?:#(\d+))?$/s.exec(ref) ?? [];
    const file = this.named(ref, end, number);
    const { name, ids } = file;
    const index = number === undefined && ids.length === 1 ? 0 : Number(number) - 1;
    const chunk = this.at(file, index);
    if (chunk !== undefined) return chunk;
    if (ids.length === 0) throw unknown(ref, `\`${name}\` has no text`);
    throw unknown(ref, `\`${name}\` has ${ids.length} chunk${ids.length === 1 ? "" : "s"}, \`${name}#1\`${ids.length === 1 ? "" : ` to \`${name}#${ids.length}\``}`);
  }

  /** A file by as much of the end of its path as no other has. @throws KvspliceError `unknown_document` as `chunk` does */
  file(name: string): CorpusFile {
    return this.describe(this.named(name, name, undefined));
  }

  /** All files, by path. */
  *files(): Iterable<CorpusFile> {
    for (const file of this.names().files) yield this.describe(file);
  }

  /** A chunk as a block of plans; what `compilePrompt` takes as its `documents`. @throws as `chunk` does */
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

  /** @param path of the chunk's file */
  refOf(path: string, id: number): string {
    const file = this.names().byPath.get(path);
    return withNumber(file?.name ?? path, String((file?.ids.indexOf(id) ?? 0) + 1));
  }

  async close(): Promise<void> {
    await this.records.close();
  }

  private named(ref: string, end: string, number: string | undefined): NamedFile {
    const { byEnd, files } = this.names();
    const [file, ...others] = byEnd.get(end) ?? [];
    if (file === undefined) throw unknown(ref, `there is no such file in the corpus${suggestion(end, number, files)}`);
    if (others.length === 0) return file;
    const some = [file, ...others].slice(0, MOST_NAMED).map(({ name }) => `\`${withNumber(name, number)}\``);
    throw unknown(ref, `${others.length + 1} files of the corpus end so; write ${some.join(" or ")}`);
  }

  private describe({ path, name, ids }: NamedFile): CorpusFile {
    const tokens = ids.reduce((sum, id) => sum + (this.records.chunk(id)?.tokens.length ?? 0), 0);
    return { name, path, chunks: ids.length, tokens, problems: this.records.file(path)?.problems ?? [] };
  }

  private at({ name, ids }: NamedFile, index: number): CorpusChunk | undefined {
    const id = ids[index];
    const chunk = id === undefined ? undefined : this.records.chunk(id);
    if (chunk === undefined) return undefined;
    const { path, title, page, text, tokens } = chunk;
    return { ref: withNumber(name, String(index + 1)), path, title, ...(page === undefined ? {} : { page }), text, tokens };
  }

  private names(): Names {
    const { generation } = this.records;
    if (this.known?.generation !== generation) this.known = { generation, names: namesOf(this.records) };
    return this.known.names;
  }
}

function namesOf(records: Records): Names {
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

/** `/a/b.md` -> `b.md`, `a/b.md`, `/a/b.md`; the whole path is no other's end. */
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
  return best === undefined ? "; `kvsplice chunks --store DIR` lists what there is" : `; did you mean \`${withNumber(best, number)}\`?`;
}

/** Written to stand in a diagnostic too. */
function unknown(ref: string, why: string): KvspliceError {
  return new KvspliceError("unknown_document", `no document \`${ref}\`: ${why}`);
}
