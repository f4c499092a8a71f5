import { resolve, sep } from "node:path";

import type { BlockStore } from "../../engine/index.js";
import { KvspliceError } from "../../plan/index.js";
import { Chunks } from "./chunks.js";
import { CorpusRecords, type Totals } from "./records.js";

/** What was removed from a corpus, and what it contains now. */
export type RemoveReport = { readonly removed: number; readonly files: number; readonly chunks: number; readonly tokens: number };

/**
 * Removes documents from a corpus by the names of their files or folders, on disk or not, or by a unique end of a file's
 * path. Blocks that no chunk refers to afterwards are deleted.
 *
 * @throws KvspliceError `unknown_document` for a name that is not in the corpus; nothing is removed then
 */
export async function removeDocuments(records: CorpusRecords, store: BlockStore, names: readonly string[]): Promise<RemoveReport> {
  records.mustBeWritable();
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
 * @throws KvspliceError `bad_store` if there is no corpus, `unknown_document`
 */
export async function removeFromCorpus(dir: string, store: BlockStore, names: readonly string[]): Promise<RemoveReport> {
  const records = await CorpusRecords.open(dir, undefined, false);
  try {
    return await removeDocuments(records, store, names);
  } finally {
    await records.close();
  }
}

/** Deletes the blocks that no chunk refers to any more. */
export async function deleteUnused(records: CorpusRecords, store: BlockStore): Promise<void> {
  const keys = records.unusedBlocks();
  if (keys.length === 0) return;
  await store.delete(keys);
  records.forgetBlocks(keys);
}

/** Paths in the corpus that a name refers to: a file, or all files below a folder. */
function pathsOf(records: CorpusRecords, chunks: Chunks, name: string): string[] {
  const path = resolve(name);
  const below = path.endsWith(sep) ? path : path + sep;
  const found = Array.from(records.allFiles(), (file) => file.path).filter((known) => known === path || known.startsWith(below));
  if (found.length > 0) return found;
  try {
    return [chunks.file(name).path];
  } catch (error) {
    if (!(error instanceof KvspliceError)) throw error;
    throw new KvspliceError(error.code, `${error.message}. Nothing was removed; kvsplice list shows the documents.`);
  }
}
