import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { defaultCacheDir } from "../../cache-dir.js";
import { areGraphsSound, graphsFolder as folderOf, MANIFEST_FILE } from "./graph-folder.js";

/** A model's graphs on disk. They are built when the model is first loaded, and can be built again. */
export type BuiltGraphs = {
  /** `graph:`, the start of their id, and the processor that they are for. */
  readonly name: string;
  /** The model that they were built from; "another version" (of kvsplice) if they do not record it. */
  readonly model: string;
  readonly path: string;
  readonly bytes: number;
  /** Reads all of them to check whether they are as built; undefined if another version built them. */
  isSound(): Promise<boolean | undefined>;
};

/** Id, ONNX Runtime's version, and the processor. A lock or a draft has such a name with a suffix. */
const FOLDER = /^([0-9a-f]{64})-onnxruntime-\d+\.\d+\.\d+(-[0-9a-f]{8})?$/;

/** The folder of all models' graphs. */
export function graphsFolder(cacheDir: string = defaultCacheDir()): string {
  return folderOf(cacheDir);
}

/** The graphs that have been built in a cache folder; the user's by default. May be empty. */
export function builtGraphs(cacheDir?: string): readonly BuiltGraphs[] {
  const root = graphsFolder(cacheDir);
  let names: string[];
  try {
    names = readdirSync(root)
      .filter((name) => FOLDER.test(name))
      .sort();
  } catch {
    return []; // nothing has been built yet
  }
  return names.map((name) => {
    const path = join(root, name);
    const bytes = readdirSync(path).reduce((sum, file) => sum + (statSync(join(path, file), { throwIfNoEntry: false })?.size ?? 0), 0);
    return {
      name: shortName(name),
      model: modelOf(path) ?? "another version",
      path,
      bytes,
      isSound: async () => (existsSync(join(path, MANIFEST_FILE)) ? areGraphsSound(path, "whole") : undefined),
    };
  });
}

/** Processes that have mapped the files keep them. */
export async function removeGraphs({ path }: BuiltGraphs): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

function shortName(folder: string): string {
  const [, id, processor = ""] = FOLDER.exec(folder)!;
  return `graph:${id!.slice(0, 12)}${processor}`;
}

function modelOf(folder: string): string | undefined {
  try {
    const { name } = JSON.parse(readFileSync(join(folder, MANIFEST_FILE), "utf8")) as { name?: unknown };
    return typeof name === "string" ? name : undefined;
  } catch {
    return undefined;
  }
}
