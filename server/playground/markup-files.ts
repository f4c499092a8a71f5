import { realpathSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { globSync } from "tinyglobby";
import { type Files, folderFiles, parsePrompt, parseSchema } from "../../pml/index.js";
import { ApiError } from "../error.js";
import type { SchemaFile } from "./events.js";

/** Files that are offered; a folder may hold others' by the thousand. */
const MAX_FILES = 200;

/** Stands for a file of the folder itself: what is named from there is relative to the folder. */
const ROOT = ".pml";

/** The markup in a folder, by paths within it: what lies outside cannot be named, nor the folder itself be told. */
export type MarkupFiles = {
  readonly files: Files;
  /** Schemas with the prompts beside them or below that name them. */
  list(): readonly SchemaFile[];
  /** @throws ApiError 404 where there is none within the folder */
  read(file: string): string;
};

/** @param folder without one, nothing can be read */
export function openMarkupFiles(folder: string | undefined): MarkupFiles {
  if (folder === undefined) return NONE;
  const root = realpathSync(folder);
  const within = folderFiles(root);
  const files: Files = {
    read(path, from) {
      // Told by the path alone: whether a file is there is not for others to learn.
      if (!resolve(root, dirname(from), path).startsWith(root + sep)) {
        return { problem: "outside-folder", message: `\`${path}\` lies outside of this server's folder of schemas` };
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
    read: (path) => ({ problem: "unreadable-file", message: `cannot read \`${path}\`: this server was given no folder of schemas (--schemas DIR); write the text here instead` }),
  },
  list: () => [],
  read(file) {
    throw new ApiError(404, `There is no file ${file}: this server was given no folder of schemas (--schemas DIR).`, { param: "file", code: "file_not_found" });
  },
};

function listFiles(root: string, files: Files): SchemaFile[] {
  const names = globSync("**/*.pml", { cwd: root, followSymbolicLinks: false }).sort().slice(0, MAX_FILES);
  const texts = names.flatMap((file) => {
    const found = files.read(file, ROOT);
    return "problem" in found ? [] : [{ file, bytes: found.bytes }];
  });
  const prompts = texts.flatMap(({ file, bytes }) => {
    const { prompt } = parsePrompt(bytes);
    return prompt ? [{ file, schema: prompt.schema }] : [];
  });
  return texts.flatMap(({ file, bytes }) => {
    const { schema } = parseSchema(bytes);
    return schema ? [{ file, prompts: prompts.filter((prompt) => prompt.schema === schema.name).map((prompt) => prompt.file) }] : [];
  });
}
