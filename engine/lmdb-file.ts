import { closeSync, existsSync, openSync, readSync } from "node:fs";

/** LMDB's stamp (`MDB_MAGIC`, liblmdb/mdb.c), after the 24 bytes of the first page's header. */
const MAGIC = 0xbeefc0de;
const MAGIC_OFFSET = 24;

/**
 * Whether LMDB can be let at the path: nothing is there, or a file that LMDB began. lmdb ends the process with a
 * segmentation fault on other files.
 */
export function isOpenable(path: string): boolean {
  if (!existsSync(path)) return true;
  const file = openSync(path, "r");
  try {
    const head = Buffer.alloc(MAGIC_OFFSET + 4);
    const length = readSync(file, head, 0, head.length, 0);
    return length === 0 || head.readUInt32LE(MAGIC_OFFSET) === MAGIC;
  } finally {
    closeSync(file);
  }
}
