import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { dirname, resolve, sep } from "node:path";
import type { DiagnosticCode } from "./diagnostic.js";
import { MAX_FILE_BYTES } from "./parse.js";

/** How a schema's `src` and imports are read. */
export interface Files {
  /**
   * Reads a file that another one names.
   * @param path as the schema writes it
   * @param from the file that names it; `path` is relative to that file's folder
   */
  read(path: string, from: string): ReadFile;
}

/** A file's content, or why it could not be read. */
export type ReadFile =
  | {
      /** A unique name for the file, however it was reached: used to detect cycles, and as `from` for the files it names. */
      readonly file: string;
      readonly bytes: Uint8Array;
    }
  | { readonly problem: Extract<DiagnosticCode, "outside-folder" | "too-large" | "unreadable-file">; readonly message: string };

/**
 * Files on disk within one folder: links are followed first, so that none leads out of it.
 * @param folder the schema's
 * @param options `allowOutside`: also read files in other folders
 */
export function folderFiles(folder: string, options: { readonly allowOutside?: boolean } = {}): Files {
  return {
    read(path, from) {
      const outside = {
        problem: "outside-folder",
        message: `\`${path}\` is outside the schema's folder; move it there, or allow files outside`,
      } as const;
      const wanted = resolve(dirname(from), path);
      try {
        if (!options.allowOutside && !isWithin(resolve(folder), wanted) && !isWithin(realpathSync(folder), wanted)) return outside;
        const file = realpathSync(wanted);
        if (!options.allowOutside && !isWithin(realpathSync(folder), file)) return outside;
        const stats = statSync(file);
        // Pipes and devices may never end.
        if (!stats.isFile()) return { problem: "unreadable-file", message: `\`${path}\` is not a file` };
        if (stats.size > MAX_FILE_BYTES) {
          return { problem: "too-large", message: `\`${path}\` has ${stats.size} bytes; at most ${MAX_FILE_BYTES} are read` };
        }
        return { file, bytes: readFileSync(file) };
      } catch (error) {
        // A schema must not learn whether a file exists outside its folder.
        if (!options.allowOutside && leadsOut(folder, wanted)) return outside;
        return { problem: "unreadable-file", message: `cannot read \`${path}\`: ${reason(error)}` };
      }
    },
  };
}

/** Most links followed in a chain. */
const MAX_LINKS = 40;

/** Whether a path that cannot be followed to its end leaves the folder on the way. */
function leadsOut(folder: string, path: string, links = MAX_LINKS): boolean {
  if (!existsSync(folder)) return false;
  const root = realpathSync(folder);
  const isOut = (target: string) => target !== root && !isWithin(root, target);
  for (let step = path; step !== dirname(step); step = dirname(step)) {
    try {
      if (!lstatSync(step).isSymbolicLink()) return isOut(realpathSync(step));
      const target = resolve(realpathSync(dirname(step)), readlinkSync(step));
      return links === 0 || isOut(target) || leadsOut(root, target, links - 1);
    } catch {
      // Missing: its parent folder may exist.
    }
  }
  return true;
}

function isWithin(folder: string, file: string): boolean {
  return file.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "permission denied";
  return code ?? message;
}
