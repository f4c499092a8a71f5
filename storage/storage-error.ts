import { KvspliceError } from "../plan/index.js";

/** Turns a file system error into one that says what to do; other errors pass through. */
export function storageError(cause: unknown, what: string, remedy: string): unknown {
  switch ((cause as NodeJS.ErrnoException | undefined)?.code) {
    case "ENOSPC":
    case "EDQUOT":
      return new KvspliceError("no_space", `No space is left to write ${what}: free some, or ${remedy}.`, { cause });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new KvspliceError("bad_store", `No permission to write ${what}: grant it, or ${remedy}.`, { cause });
    default:
      return cause;
  }
}
