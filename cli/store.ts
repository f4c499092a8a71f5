import { join } from "node:path";
import pc from "picocolors";
import { openDiskStore, type BlockStore } from "../engine/index.js";

/** Where the blocks of a corpus's store are, so that one folder serves both. */
export function openStore(dir: string): BlockStore {
  return openDiskStore(join(dir, "blocks"), {
    onDamage: (key, path) => process.stderr.write(`${pc.yellow("warning:")} block ${key.slice(0, 12)} (${path}) does not verify; it is encoded again.\n`),
  });
}
