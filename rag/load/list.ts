import { open, readdir, realpath, stat } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";

import picomatch from "picomatch";

import { KvspliceError } from "../../plan/index.js";
import type { LoadProblem } from "../document.js";
import { looksLikeText } from "./decode.js";
import { isLoadable, LOADABLE, suffixOf } from "./kinds.js";

/** The requested files. */
export type Listing = {
  /** Absolute paths without duplicates, sorted by code units, whatever the order on disk. */
  readonly files: readonly string[];
  /** Absolute paths of searched folders: a known file below them that is not on disk was deleted. */
  readonly folders: readonly string[];
  /** Absolute paths of known files and folders that no longer exist. */
  readonly gone: readonly string[];
  /** What was skipped, by kind: a suffix, `(no suffix)`, `linked folders` ... */
  readonly passedOver: Readonly<Record<string, number>>;
  /** Absolute paths of folders that could not be searched: their files may still exist. */
  readonly unreadable: readonly string[];
  readonly problems: readonly LoadProblem[];
};

export type ListOptions = {
  /** Follows links that lead out of their folder, and links to folders. False by default. */
  readonly followLinks?: boolean | undefined;
  /** Whether a name that does not exist was a known file or folder, so that it is not an error. By default, none is known. */
  readonly isKnown?: ((path: string) => boolean) | undefined;
};

/** Folders that tools create among documents: packages, and Sphinx's copies of sources and scripts. */
export const SKIPPED_FOLDERS = new Set(["node_modules", "__pycache__", "_static", "_sources"]);

/** Bytes of a file without a suffix that are read to tell whether it is text. */
const SAMPLE_BYTES = 4096;

/**
 * Finds files by name, folder and glob. In folders and globs, hidden files are skipped; so are files of unknown kinds,
 * tools' folders, linked folders and links out of the folder, which are counted.
 *
 * @throws KvspliceError `bad_file` for a name that does not exist and is not known
 */
export async function listFiles(names: readonly string[], options: ListOptions = {}): Promise<Listing> {
  const files = new Set<string>();
  const folders: string[] = [];
  const gone: string[] = [];
  const unreadable: string[] = [];
  const problems: LoadProblem[] = [];
  const passedOver: Record<string, number> = {};
  const search = async (name: string, folder: string, isAsked: (path: string) => boolean) => {
    const found = await new Search(folder, isAsked, options).run();
    if (found.files.length === 0) problems.push({ path: name, reason: `No file in it can be loaded; these can: ${LOADABLE}.` });
    for (const path of found.files) files.add(path);
    for (const [kind, count] of found.passedOver) passedOver[kind] = (passedOver[kind] ?? 0) + count;
    unreadable.push(...found.unreadable);
    problems.push(...found.problems);
    folders.push(folder);
  };
  for (const name of names) {
    const path = resolve(name);
    const status = await stat(path).catch(() => undefined);
    const { isGlob, base, glob } = picomatch.scan(name);
    if (status?.isDirectory()) await search(name, path, () => true);
    else if (status !== undefined) files.add(path);
    else if (options.isKnown?.(path)) gone.push(path);
    else if (isGlob) await search(name, resolve(base), picomatch(glob));
    else throw new KvspliceError("bad_file", `There is no file or folder ${name}; check the name and the current folder.`);
  }
  return { files: [...files].sort(), folders, gone, passedOver, unreadable, problems };
}

/** Walks one folder, following links and subfolders. */
class Search {
  readonly files: string[] = [];
  readonly passedOver = new Map<string, number>();
  readonly unreadable: string[] = [];
  readonly problems: LoadProblem[] = [];
  /** Real path of each file: a file reached by two links counts once. */
  private readonly real = new Set<string>();
  private readonly visited = new Set<string>();
  private links: { readonly path: string; readonly target: string }[] = [];
  private root = "";

  constructor(
    private readonly folder: string,
    private readonly isAsked: (path: string) => boolean,
    private readonly options: ListOptions,
  ) {}

  async run(): Promise<this> {
    this.root = await realpath(this.folder).catch(() => this.folder);
    await this.visit(this.folder, this.root);
    for (const { path, target } of this.links.sort((a, b) => (a.path < b.path ? -1 : 1))) await this.take(path, target);
    return this;
  }

  private async visit(folder: string, real: string): Promise<void> {
    if (this.visited.has(real)) return;
    this.visited.add(real);
    for (const entry of await this.entriesOf(folder)) {
      const path = join(folder, entry.name);
      if (entry.name.startsWith(".")) continue;
      if (entry.isDirectory()) {
        if (SKIPPED_FOLDERS.has(entry.name)) this.passOver(path, `${entry.name}/`);
        else await this.visit(path, join(real, entry.name));
      } else if (entry.isSymbolicLink()) await this.follow(path);
      else if (entry.isFile()) await this.take(path, join(real, entry.name));
      else this.passOver(path, "special files");
    }
  }

  private async entriesOf(folder: string) {
    try {
      return await readdir(folder, { withFileTypes: true });
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") return [];
      this.unreadable.push(folder);
      this.problems.push({ path: folder, reason: `The folder cannot be read (${message}); check its permissions.` });
      return [];
    }
  }

  private async follow(path: string): Promise<void> {
    const target = await realpath(path).catch(() => undefined);
    const status = target === undefined ? undefined : await stat(target).catch(() => undefined);
    if (target === undefined || status === undefined) return this.passOver(path, "broken links");
    const isInside = target.startsWith(this.root + sep);
    if (status.isDirectory()) {
      if (this.options.followLinks) await this.visit(path, target);
      else this.passOver(path, "linked folders");
    } else if (!isInside && !this.options.followLinks) this.passOver(path, "links out of the folder");
    else this.links.push({ path, target });
  }

  private async take(path: string, real: string): Promise<void> {
    if (this.real.has(real) || !this.asks(path)) return;
    if (!isLoadable(path)) return this.passOver(path, suffixOf(path));
    if (suffixOf(path) === "" && !(await isTextFile(path))) return this.passOver(path, "(no suffix)");
    this.real.add(real);
    this.files.push(path);
  }

  private passOver(path: string, kind: string): void {
    if (this.asks(path)) this.passedOver.set(kind, (this.passedOver.get(kind) ?? 0) + 1);
  }

  private asks(path: string): boolean {
    return this.isAsked(relative(this.folder, path).split(sep).join("/"));
  }
}

/** A file that cannot be read is reported when it is loaded. */
async function isTextFile(path: string): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return true;
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(SAMPLE_BYTES), 0, SAMPLE_BYTES, 0);
    return looksLikeText(buffer.subarray(0, bytesRead));
  } finally {
    await file.close();
  }
}
