export { readFully, writeFully } from "./file-bytes.js";
export { type FileLockOptions, withFileLock } from "./file-lock.js";
export { checkLmdbFile, isOpenable } from "./lmdb-file.js";
export { storageError } from "./storage-error.js";
