import { realpathSync, readFileSync, statSync } from "node:fs";
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
      try {
        const file = realpathSync(resolve(dirname(from), path));
        if (!options.allowOutside && !isWithin(realpathSync(folder), file)) {
          const message = `\`${path}\` lies outside of the schema's folder; move it there, or allow files outside`;
          return { problem: "outside-folder", message };
        }
        const stats = statSync(file);
        // Pipes and devices may never end.
        if (!stats.isFile()) return { problem: "unreadable-file", message: `\`${path}\` is no file` };
        if (stats.size > MAX_FILE_BYTES) {
          return { problem: "too-large", message: `\`${path}\` has ${stats.size} bytes; ${MAX_FILE_BYTES} may be read` };
        }
        return { file, bytes: readFileSync(file) };
      } catch (error) {
        return { problem: "unreadable-file", message: `cannot read \`${path}\`: ${reason(error)}` };
      }
    },
  };
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
