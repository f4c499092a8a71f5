import { resolve, sep } from "node:path";

import type { BlockStore } from "../../engine/index.js";
import { KvspliceError } from "../../plan/index.js";
import { Chunks } from "./chunks.js";
import { Records, type Totals } from "./records.js";

/** What was taken out of a corpus, and what it holds now. */
export type RemoveReport = { readonly removed: number; readonly files: number; readonly chunks: number; readonly tokens: number };

/**
 * Takes documents out of a corpus by the names of their files or folders, on disk or not, or by as much of the end of a
 * file's path as no other file has. Blocks that no chunk refers to afterwards are deleted.
 *
 * @throws KvspliceError `unknown_document` for a name that is none of the corpus; nothing is removed then
 */
export async function removeDocuments(records: Records, store: BlockStore, names: readonly string[]): Promise<RemoveReport> {
  const chunks = new Chunks(records);
  const paths = new Set(names.flatMap((name) => pathsOf(records, chunks, name)));
  for (const path of paths) records.removeFile(path);
  await deleteUnused(records, store);
  const { files, chunks: left, tokens }: Totals = records.totals;
  return { removed: paths.size, files, chunks: left, tokens };
}

/**
 * The same for a corpus in a folder, without its model.
 *
 * @throws KvspliceError `bad_store` where there is no corpus, `unknown_document`
 */
export async function removeFromCorpus(dir: string, store: BlockStore, names: readonly string[]): Promise<RemoveReport> {
  const records = await Records.open(dir, undefined, false);
  try {
    return await removeDocuments(records, store, names);
  } finally {
    await records.close();
  }
}

/** Deletes the blocks that no chunk refers to any more. */
export async function deleteUnused(records: Records, store: BlockStore): Promise<void> {
  const keys = records.unusedBlocks();
  if (keys.length === 0) return;
  await store.delete(keys);
  records.forgetBlocks(keys);
}

/** Paths of the corpus that a name means: a file, or all below a folder. */
function pathsOf(records: Records, chunks: Chunks, name: string): string[] {
  const path = resolve(name);
  const below = path.endsWith(sep) ? path : path + sep;
  const found = Array.from(records.allFiles(), (file) => file.path).filter((known) => known === path || known.startsWith(below));
  if (found.length > 0) return found;
  try {
    return [chunks.file(name).path];
  } catch (error) {
    if (!(error instanceof KvspliceError)) throw error;
    throw new KvspliceError(error.code, `${error.message}. Nothing was removed; kvsplice list tells what there is.`);
  }
}
