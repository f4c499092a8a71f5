import { mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { KvspliceError } from "../plan/index.js";

/** Errors that say how to mend them better than this can. */
const TELLING = new Set(["EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT"]);

/**
 * Makes a folder, and those above it that are missing. Node's own way with `recursive` never ends where the system lets
 * nothing be made and says so with ENOENT, as in /proc.
 *
 * @param remedy what to do where the folder cannot be made
 * @throws KvspliceError `bad_store` where it cannot be made; the system's error where a permission or room is missing
 */
export function makeFolder(path: string, remedy = "Name another place."): void {
  const missing: string[] = [];
  let at = resolve(path);
  for (let kind = kindOf(at); kind !== "folder"; kind = kindOf(at)) {
    if (kind === "other") throw new KvspliceError("bad_store", `${at} is no folder, and one is needed there. ${remedy}`);
    missing.unshift(at);
    at = dirname(at);
  }
  for (const folder of missing) {
    try {
      mkdirSync(folder);
    } catch (cause) {
      if (kindOf(folder) === "folder") continue; // another process made it
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== undefined && TELLING.has(code)) throw cause;
      throw new KvspliceError("bad_store", `${folder} cannot be made a folder (${code ?? String(cause)}). ${remedy}`, { cause });
    }
  }
}

function kindOf(path: string): "folder" | "other" | "nothing" {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    return !found ? "nothing" : found.isDirectory() ? "folder" : "other";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return "nothing"; // a file is above it
    throw error;
  }
}
