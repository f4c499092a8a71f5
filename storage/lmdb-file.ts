import { accessSync, closeSync, constants, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { dirname } from "node:path";
import { KvspliceError } from "../plan/index.js";

/** LMDB's magic number (`MDB_MAGIC`, liblmdb/mdb.c), after the header of each of the first two pages. */
const MAGIC = 0xbeefc0de;
const PAGE_HEADER_BYTES = 24;

/** `MDB_meta`: the page's size, the last page in use, the transaction that wrote it. */
const PAGE_SIZE = 24;
const LAST_PAGE = 120;
const TRANSACTION = 128;
const META_BYTES = 136;

/**
 * Checks that LMDB can safely open the path: there is nothing, or a complete file that LMDB created. On other files lmdb ends
 * the process with a segmentation fault, and with a bus error if a file ends before its last page.
 *
 * @throws KvspliceError `bad_store`; the file is left as it is
 */
export function checkLmdbFile(path: string): void {
  if (!existsSync(path)) return;
  const file = openSync(path, "r");
  try {
    if (fstatSync(file).size === 0) return;
    const first = readMeta(file, 0);
    if (!first) throw damaged(path, "it does not begin as LMDB wrote it");
    const metas = [first, readMeta(file, first.pageSize)].filter((meta) => meta !== undefined);
    const newest = metas.reduce((a, b) => (b.transaction > a.transaction ? b : a));
    const needed = (newest.lastPage + 1) * first.pageSize;
    const { size } = fstatSync(file); // read now: another process may have extended the file before it wrote the meta page
    if (size < needed) throw damaged(path, `it was cut short, to ${size} bytes of ${needed}`);
  } finally {
    closeSync(file);
  }
}

/** Whether there is nothing at the path, or a file that LMDB can safely open. */
export function isOpenable(path: string): boolean {
  try {
    checkLmdbFile(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether this user may write an LMDB file and its lock file. A file that may only be read can be opened with `readOnly`:
 * LMDB then uses no lock file, so a writer does not know of the reader (docs/store.md).
 */
export function mayWriteLmdb(path: string): boolean {
  return [path, `${path}-lock`].every((file) => isWritable(existsSync(file) ? file : dirname(file)));
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function readMeta(file: number, page: number): { pageSize: number; lastPage: number; transaction: bigint } | undefined {
  const meta = Buffer.alloc(META_BYTES);
  const length = readSync(file, meta, 0, META_BYTES, page + PAGE_HEADER_BYTES);
  if (length < META_BYTES || meta.readUInt32LE(0) !== MAGIC) return undefined;
  const pageSize = meta.readUInt32LE(PAGE_SIZE);
  const isPowerOfTwo = pageSize >= 512 && (pageSize & (pageSize - 1)) === 0;
  return isPowerOfTwo
    ? { pageSize, lastPage: Number(meta.readBigUInt64LE(LAST_PAGE)), transaction: meta.readBigUInt64LE(TRANSACTION) }
    : undefined;
}

function damaged(path: string, how: string): KvspliceError {
  return new KvspliceError(
    "bad_store",
    `${path} is damaged: ${how}. Nothing in it was changed. Put a copy back, or move it away and precompute again.`,
  );
}
