import { mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { KvspliceError } from "../plan/index.js";

/**
 * Makes a folder, and those above it that are missing. Node's own way with `recursive` never ends where the system lets
 * nothing be made and says so with ENOENT, as in /proc.
 *
 * @throws KvspliceError `bad_store` where it cannot be made
 */
export function makeFolder(path: string): void {
  const missing: string[] = [];
  let at = resolve(path);
  for (; !isFolder(at); at = dirname(at)) missing.unshift(at);
  for (const folder of missing) {
    try {
      mkdirSync(folder);
    } catch (cause) {
      if (isFolder(folder)) continue; // another process made it
      const { code } = cause as NodeJS.ErrnoException;
      if (code === "EACCES" || code === "EPERM" || code === "EROFS" || code === "ENOSPC" || code === "EDQUOT") throw cause;
      throw new KvspliceError("bad_store", `${folder} cannot be made a folder (${code ?? String(cause)}). Name another place.`, { cause });
    }
  }
}

/** @throws KvspliceError `bad_store` where something else is in the way */
function isFolder(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found && !found.isDirectory()) throw new KvspliceError("bad_store", `${path} is a file, and a folder is needed there. Name another place.`);
  return found !== undefined;
}
