import { randomUUID } from "node:crypto";
import { access, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { decodeSafetensors, encodeSafetensors } from "../kv/safetensors.js";
import { storageError } from "../storage-error.js";
import type { BlockKey, BlockStore } from "./store.js";

export type DiskStoreOptions = {
  /** Told of a block that is there and does not verify; it is treated as absent. A process warning when left out. */
  readonly onDamage?: (key: BlockKey, path: string) => void;
};

const EXTENSION = ".safetensors";

/**
 * Blocks as files of a folder, one safetensors file each. A block is written under a temporary name, synced and
 * renamed: at any moment it is there whole or not at all, and several processes may write at once.
 */
export function openDiskStore(dir: string, options: DiskStoreOptions = {}): BlockStore {
  const pathOf = (key: BlockKey) => join(dir, key.slice(0, 2), key + EXTENSION);
  const onDamage = options.onDamage ?? warn;
  const remedy = "use another --store";
  return {
    async get(key) {
      let file: Buffer;
      try {
        file = await readFile(pathOf(key));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw storageError(error, `(or read) the blocks in ${dir}`, remedy);
      }
      const block = decodeSafetensors(key, file);
      if (!block) {
        onDamage(key, pathOf(key));
        await rm(pathOf(key), { force: true }).catch(() => undefined); // so that the block is put anew
      }
      return block;
    },
    has: (key) =>
      access(pathOf(key)).then(
        () => true,
        () => false,
      ),
    async put(key, block) {
      const path = pathOf(key);
      if (await this.has(key)) return;
      const draft = `${path}.${randomUUID()}.tmp`;
      try {
        await mkdir(dirname(path), { recursive: true });
        const file = await open(draft, "wx");
        try {
          for (const part of encodeSafetensors(key, block)) await writeAll(file, part);
          await file.sync();
        } finally {
          await file.close();
        }
        await rename(draft, path);
      } catch (error) {
        await rm(draft, { force: true }).catch(() => undefined);
        throw storageError(error, `a block into ${dir}`, remedy);
      }
    },
    async delete(keys) {
      for (const key of keys) await rm(pathOf(key), { force: true });
    },
    async *keys() {
      for (const folder of await readdir(dir).catch(() => [])) {
        for (const name of await readdir(join(dir, folder)).catch(() => [])) {
          if (name.endsWith(EXTENSION)) yield name.slice(0, -EXTENSION.length);
        }
      }
    },
    async close() {},
  };
}

function warn(key: BlockKey, path: string): void {
  process.emitWarning(`Block ${key.slice(0, 12)} (${path}) does not verify; it is encoded again.`, { code: "KVSPLICE_DAMAGED_BLOCK" });
}

/** A short write (a full disk may give one) goes on until it is whole or fails. */
async function writeAll(file: Awaited<ReturnType<typeof open>>, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done)).bytesWritten;
}
