import envPaths from "env-paths";
import { KvspliceError } from "../plan/index.js";

/** Where built graphs are kept by default: `KVSPLICE_CACHE_DIR`, or the user's cache folder. */
export function defaultCacheDir(): string {
  const set = process.env["KVSPLICE_CACHE_DIR"];
  if (set?.trim() === "")
    throw new KvspliceError(
      "bad_argument",
      "KVSPLICE_CACHE_DIR is set but empty. Set it to a folder, or unset it to use the user's cache folder.",
    );
  return set ?? envPaths("kvsplice", { suffix: "" }).cache;
}
