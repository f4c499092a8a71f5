export { CommonCommit } from "./common-commit.js";
export { readFully, writeFully } from "./file-bytes.js";
export { type FileLockOptions, isFileLocked, withFileLock } from "./file-lock.js";
export { makeFolder } from "./folder.js";
export { checkLmdbFile, isOpenable, mayWriteLmdb } from "./lmdb-file.js";
export { RedisConnection, type RedisConnectionOptions } from "./redis-connection.js";
export { storageError } from "./storage-error.js";
