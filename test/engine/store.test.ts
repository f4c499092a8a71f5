import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keepInMemory, openDiskStore } from "../../engine/index.js";
import type { Float32Block } from "../../engine/kv/block.js";
import { mountSmall } from "../small-disk.js";
import { collect } from "./golden.js";

const KEY = "ab".repeat(32);

function randomBlock(tokens: number): Float32Block {
  const values = () => Float32Array.from({ length: 2 * tokens * 4 }, () => Math.random() - 0.5);
  return { layers: 2, tokens, width: 4, precision: "float32", k: values(), v: values() };
}

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "kvsplice-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const fileOf = (key: string) => join(dir, key.slice(0, 2), `${key}.safetensors`);

describe("the disk store", () => {
  test("gives back a block bit for bit, and nothing for a key that it does not have", async () => {
    const store = openDiskStore(dir);
    const block = randomBlock(3);
    await store.put(KEY, block);
    expect(await store.get(KEY)).toEqual(block);
    expect(await store.has(KEY)).toBe(true);
    expect(await store.get("cd".repeat(32))).toBeUndefined();
    expect(await collect(store.keys())).toEqual([KEY]);
    await store.delete([KEY]);
    expect(await store.has(KEY)).toBe(false);
  });

  test("its files are safetensors: a length, a JSON header, and the data where the header says", async () => {
    const block = randomBlock(2);
    await openDiskStore(dir).put(KEY, block);
    const file = await readFile(fileOf(KEY));
    const length = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString("utf8", 8, 8 + length)) as Record<"k" | "v", { dtype: string; shape: number[]; data_offsets: number[] }>;
    expect(header.v).toEqual({ dtype: "F32", shape: [2, 2, 4], data_offsets: [64, 128] });
    expect(file.readFloatLE(8 + length + header.v.data_offsets[0]!)).toBe(block.v[0]);
  });

  test("any byte changed makes a block absent, and is told", async () => {
    const block = randomBlock(1);
    await openDiskStore(dir).put(KEY, block);
    const intact = await readFile(fileOf(KEY));
    const damaged: string[] = [];
    const store = openDiskStore(dir, { onDamage: (key) => damaged.push(key) });
    for (let at = 0; at < intact.length; at++) {
      const bytes = Buffer.from(intact);
      bytes[at]! ^= 1 << at % 8;
      await writeFile(fileOf(KEY), bytes);
      expect(await store.get(KEY)).toBeUndefined();
    }
    expect(damaged).toHaveLength(intact.length);
  });

  test("a file cut short at any length makes a block absent", async () => {
    await openDiskStore(dir).put(KEY, randomBlock(1));
    const intact = await readFile(fileOf(KEY));
    for (let length = 0; length < intact.length; length++) {
      await writeFile(fileOf(KEY), intact.subarray(0, length));
      expect(await openDiskStore(dir).get(KEY)).toBeUndefined();
    }
  });

  test("many writers of one block leave one whole file", async () => {
    const block = randomBlock(50);
    await Promise.all(Array.from({ length: 20 }, () => openDiskStore(dir).put(KEY, block)));
    expect(await openDiskStore(dir).get(KEY)).toEqual(block);
    expect(await readdir(join(dir, "ab"))).toEqual([`${KEY}.safetensors`]);
  });

  const small = mountSmall("64k");
  test.skipIf(!small)("a full disk (tmpfs of 64 KiB) is an error that says so, and what was stored stays", async () => {
    const store = openDiskStore(small!);
    try {
      const block = randomBlock(10);
      await store.put(KEY, block);
      await expect(store.put("cd".repeat(32), randomBlock(4000))).rejects.toMatchObject({ code: "no_space" });
      expect(await store.get(KEY)).toEqual(block);
      expect(await collect(store.keys())).toEqual([KEY]);
    } finally {
      execFileSync("umount", [small!]);
    }
  });
});

describe("the memory in front of it", () => {
  test("answers without the store below, and holds no more than its bytes", async () => {
    const block = randomBlock(2);
    const bytes = block.k.byteLength + block.v.byteLength;
    const store = keepInMemory(openDiskStore(dir), 2 * bytes);
    const keys = ["aa", "bb", "cc"].map((part) => part.repeat(32));
    for (const key of keys) await store.put(key, block);
    await rm(dir, { recursive: true });
    expect(await store.get(keys[0]!)).toBeUndefined(); // used least recently, and gone below
    expect(await store.get(keys[1]!)).toBe(block);
    expect(await store.get(keys[2]!)).toBe(block);
  });
});
