import { mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { KvspliceError } from "../plan/index.js";

/** Errors whose own text explains the remedy better than this function can. */
const TELLING = new Set(["EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT"]);

/**
 * Makes a folder and any missing parents. Node's `recursive` option never returns on systems that let nothing be created and
 * report ENOENT, as in /proc.
 *
 * @param remedy what to do if the folder cannot be made
 * @throws KvspliceError `bad_store` if it cannot be made; the system's error if a permission or space is missing
 */
export function makeFolder(path: string, remedy = "Name another place."): void {
  const missing: string[] = [];
  let at = resolve(path);
  for (let kind = kindOf(at); kind !== "folder"; kind = kindOf(at)) {
    if (kind === "other") throw new KvspliceError("bad_store", `${at} must be a folder, but it is something else. ${remedy}`);
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
      throw new KvspliceError("bad_store", `The folder ${folder} cannot be created (${code ?? String(cause)}). ${remedy}`, { cause });
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
