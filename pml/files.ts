import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { dirname, resolve, sep } from "node:path";
import type { DiagnosticCode } from "./diagnostic.js";
import { MAX_FILE_BYTES } from "./parse.js";

/** How a schema's `src` and imports are read. */
export interface Files {
  /**
   * @param path as the schema writes it
   * @param from the file that names it; `path` is relative to that file's folder
   */
  read(path: string, from: string): ReadFile;
}

export type ReadFile =
  | {
      /** One name for one file, however it was reached: by it cycles are told, and `from` of what the file names. */
      readonly file: string;
      readonly bytes: Uint8Array;
    }
  | { readonly problem: Extract<DiagnosticCode, "outside-folder" | "too-large" | "unreadable-file">; readonly message: string };

/**
 * Files of the disk within one folder: links are followed first, so that none leads out of it.
 * @param folder the schema's
 * @param options `allowOutside`: read files of other folders too
 */
export function folderFiles(folder: string, options: { readonly allowOutside?: boolean } = {}): Files {
  return {
    read(path, from) {
      const outside = {
        problem: "outside-folder",
        message: `\`${path}\` lies outside of the schema's folder; move it there, or allow files outside`,
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
          return { problem: "too-large", message: `\`${path}\` has ${stats.size} bytes; ${MAX_FILE_BYTES} may be read` };
        }
        return { file, bytes: readFileSync(file) };
      } catch (error) {
        // Whether something is there, outside of the folder, is not for a schema to learn.
        if (!options.allowOutside && leadsOut(folder, wanted)) return outside;
        return { problem: "unreadable-file", message: `cannot read \`${path}\`: ${reason(error)}` };
      }
    },
  };
}

/** Links that are followed, one to another. */
const MAX_LINKS = 40;

/** Whether a path that cannot be followed to its end leaves the folder before it. */
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
      // It is not there: the folder above may be.
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
  if (code === "EACCES") return "reading it is not permitted";
  return code ?? message;
}
