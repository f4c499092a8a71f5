import { stat } from "node:fs/promises";
import { resolve, sep } from "node:path";

import { glob, isDynamicPattern } from "tinyglobby";

import { KvspliceError } from "../../engine/index.js";
import type { LoadProblem } from "../document.js";
import { isLoadable, LOADABLE } from "./load.js";

/** The files that were asked for. */
export type Listing = {
  /** Absolute, each once, in the order of their code units, whatever order the disk has. */
  readonly files: readonly string[];
  /** Absolute folders that were searched: a file below them that is gone from the disk was deleted. */
  readonly folders: readonly string[];
  readonly problems: readonly LoadProblem[];
};

/**
 * Finds files by their names, folders and globs. In folders and globs, hidden files, node_modules, linked folders and
 * files of unknown kinds are passed over.
 *
 * @throws KvspliceError `bad_file` for a name that does not exist.
 */
export async function listFiles(names: readonly string[]): Promise<Listing> {
  const files = new Set<string>();
  const folders: string[] = [];
  const problems: LoadProblem[] = [];
  const search = async (name: string, pattern: string, folder: string) => {
    const options = { cwd: folder, absolute: true, expandDirectories: false, followSymbolicLinks: false };
    const found = (await glob(pattern, { ...options, ignore: ["**/node_modules/**"] })).filter(isLoadable);
    if (found.length === 0) problems.push({ path: name, reason: `No file in it can be loaded; it takes ${LOADABLE}` });
    for (const path of found) files.add(resolve(path));
    folders.push(folder);
  };
  for (const name of names) {
    const path = resolve(name);
    const status = await stat(path).catch(() => undefined);
    if (status?.isDirectory()) await search(name, "**", path);
    else if (status !== undefined) files.add(path);
    else if (isDynamicPattern(name)) await search(name, ...splitPattern(name));
    else throw new KvspliceError("bad_file", `There is no file or folder ${name}; check the name, and where you are.`);
  }
  return { files: [...files].sort(), folders, problems };
}

/** `docs/a/*.md` -> `*.md` in `docs/a`. */
function splitPattern(name: string): [pattern: string, folder: string] {
  const parts = name.split("/");
  const start = parts.findIndex((part) => isDynamicPattern(part));
  const fixed = start < 0 ? 0 : start;
  return [parts.slice(fixed).join("/"), resolve(parts.slice(0, fixed).join("/") || (name.startsWith("/") ? sep : "."))];
}
