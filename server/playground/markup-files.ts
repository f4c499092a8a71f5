import { realpathSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { globSync } from "tinyglobby";
import { type Files, folderFiles, parsePrompt, parseSchema } from "../../pml/index.js";
import { ApiError } from "../error.js";
import type { SchemaFile } from "./events.js";

/** Maximum files offered; a folder may contain thousands. */
const MAX_FILES = 200;

/** A placeholder for a file in the folder itself: paths from it are relative to the folder. */
const ROOT = ".pml";

/** The markup in a folder, by relative paths. Files outside it cannot be read, and its location is not revealed. */
export type MarkupFiles = {
  readonly files: Files;
  /** Schemas, each with the prompts that name it. `more` counts the files beyond the limit. */
  list(): { readonly schemas: readonly SchemaFile[]; readonly more: number };
  /** @throws ApiError 404 if there is no such file in the folder */
  read(file: string): string;
};

/** @param folder without one, nothing can be read */
export function openMarkupFiles(folder: string | undefined): MarkupFiles {
  if (folder === undefined) return NONE;
  const root = realpathSync(folder);
  const within = folderFiles(root);
  const files: Files = {
    read(path, from) {
      // Decided by the path only, so clients cannot find out whether a file exists.
      if (!resolve(root, dirname(from), path).startsWith(root + sep)) {
        return { problem: "outside-folder", message: `\`${path}\` is outside this server's folder of schemas` };
      }
      const read = within.read(path, join(root, from));
      return "problem" in read ? read : { ...read, file: relative(root, read.file).replaceAll(sep, "/") };
    },
  };
  const read = (file: string): string => {
    const found = files.read(file, ROOT);
    if ("problem" in found) throw new ApiError(404, `${found.message}.`, { param: "file", code: "file_not_found" });
    return new TextDecoder().decode(found.bytes);
  };
  return { files, read, list: () => listFiles(root, files) };
}

const NONE: MarkupFiles = {
  files: {
    read: (path) => ({
      problem: "unreadable-file",
      message: `cannot read \`${path}\`: this server has no folder of schemas (--schemas DIR); write the text here instead`,
    }),
  },
  list: () => ({ schemas: [], more: 0 }),
  read(file) {
    throw new ApiError(404, `There is no file ${file}: this server has no folder of schemas (--schemas DIR).`, {
      param: "file",
      code: "file_not_found",
    });
  },
};

function listFiles(root: string, files: Files): ReturnType<MarkupFiles["list"]> {
  const all = globSync("**/*.pml", { cwd: root, followSymbolicLinks: false }).sort();
  const names = all.slice(0, MAX_FILES);
  const texts = names.flatMap((file) => {
    const found = files.read(file, ROOT);
    return "problem" in found ? [] : [{ file, bytes: found.bytes }];
  });
  const prompts = texts.flatMap(({ file, bytes }) => {
    const { prompt } = parsePrompt(bytes);
    return prompt ? [{ file, schema: prompt.schema }] : [];
  });
  const schemas = texts.flatMap(({ file, bytes }) => {
    const { schema } = parseSchema(bytes);
    return schema ? [{ file, prompts: prompts.filter((prompt) => prompt.schema === schema.name).map((prompt) => prompt.file) }] : [];
  });
  return { schemas, more: all.length - names.length };
}
