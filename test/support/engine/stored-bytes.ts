import { existsSync, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { type BlockKey, openDiskStore } from "../../../engine/index.js";

export const fileOf = (dir: string) => join(dir, "blocks.lmdb");

/** Where the safetensors files of one key, or of all, begin in a disk tier's file, including old copies. */
export function placesOf(dir: string, key = ""): number[] {
  const file = readFileSync(fileOf(dir));
  const places: number[] = [];
  const opening = Buffer.from(`{"__metadata__":{"format":"kvsplice-block-3","key":"${key}`);
  for (let at = file.indexOf(opening); at >= 0; at = file.indexOf(opening, at + 1)) places.push(at - 8);
  return places;
}

/** Changes bits of one byte of a file. */
export async function flip(path: string, at: number, mask: number): Promise<void> {
  const file = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0]! ^= mask;
    await file.write(byte, 0, 1, at);
  } finally {
    await file.close();
  }
}

/** Keys in a disk tier; none if there is no tier. */
export async function storedKeys(dir: string): Promise<BlockKey[]> {
  if (!existsSync(fileOf(dir))) return [];
  const store = openDiskStore(dir);
  try {
    const keys: BlockKey[] = [];
    for await (const key of store.keys()) keys.push(key);
    return keys;
  } finally {
    await store.close();
  }
}
