export { readFully, writeFully } from "./file-bytes.js";
export { type FileLockOptions, isFileLocked, withFileLock } from "./file-lock.js";
export { makeFolder } from "./folder.js";
export { checkLmdbFile, isOpenable } from "./lmdb-file.js";
export { storageError } from "./storage-error.js";
