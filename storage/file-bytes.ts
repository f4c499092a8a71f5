import { readSync, writeSync } from "node:fs";

/** The most that one call can read on every system. */
const READ_BYTES = 1 << 30;

/** Bytes of an open file from `offset` on; undefined if the file is too short. */
export function readFully(file: number, offset: number, length: number): Uint8Array | undefined {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const read = readSync(file, bytes, done, Math.min(length - done, READ_BYTES), offset + done);
    if (read === 0) return undefined;
    done += read;
  }
  return bytes;
}

/** Writes all of the bytes at an offset in an open file. */
export function writeFully(file: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, offset + done);
}
