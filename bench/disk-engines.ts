/**
 * Options for storing blocks on disk: LMDB, one file per block, SQLite (if `better-sqlite3` is installed as well). Every
 * put is durable when it returns. Times are medians, reads are warm.
 *
 *     npx tsx bench/disk-engines.ts [--count 200] [--folder DIR]
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { open as openFile, rename, unlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { open } from "lmdb";

const { values } = parseArgs({ options: { count: { type: "string", default: "200" }, folder: { type: "string", default: tmpdir() } } });
const COUNT = Number(values.count);

type Engine = {
  put(key: string, bytes: Uint8Array): Promise<unknown>;
  get(key: string): Promise<Uint8Array | undefined>;
  remove(key: string): Promise<unknown>;
  close(): Promise<unknown>;
  /** Bytes of the file that contains all blocks; separate files free theirs when deleted. */
  size?(): number;
};

const engines: Record<string, (dir: string) => Engine> = {
  LMDB: (dir) => {
    const root = open({ path: join(dir, "b.lmdb"), noSubdir: true, encoding: "binary" });
    const at = join(dir, "b.lmdb");
    return {
      put: async (key, bytes) => {
        await root.put(key, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
        await root.flushed;
      },
      get: async (key) => root.get(key) as Buffer | undefined,
      remove: (key) => root.remove(key),
      close: () => root.close(),
      size: () => statSync(at).size,
    };
  },
  "LMDB, putSync": (dir) => {
    const root = open({ path: join(dir, "b.lmdb"), noSubdir: true, encoding: "binary", overlappingSync: false });
    const at = join(dir, "b.lmdb");
    return {
      put: async (key, bytes) => root.putSync(key, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)),
      get: async (key) => root.get(key) as Buffer | undefined,
      remove: async (key) => root.removeSync(key),
      close: () => root.close(),
      size: () => statSync(at).size,
    };
  },
  "one file per block": (dir) => {
    for (let i = 0; i < 256; i++) mkdirSync(join(dir, i.toString(16).padStart(2, "0")));
    const pathOf = (key: string) => join(dir, key.slice(0, 2), key);
    return {
      async put(key, bytes) {
        const file = await openFile(`${pathOf(key)}.tmp`, "w");
        await file.write(bytes);
        await file.sync();
        await file.close();
        await rename(`${pathOf(key)}.tmp`, pathOf(key));
      },
      async get(key) {
        const file = await openFile(pathOf(key), "r").catch(() => undefined);
        if (!file) return undefined;
        const { size } = await file.stat();
        const bytes = Buffer.allocUnsafeSlow(size);
        await file.read(bytes, 0, size, 0);
        await file.close();
        return bytes;
      },
      remove: (key) => unlink(pathOf(key)),
      async close() {},
    };
  },
};
try {
  const Database = createRequire(import.meta.url)("better-sqlite3") as new (path: string) => any;
  engines["SQLite"] = (dir) => {
    const database = new Database(join(dir, "b.sqlite"));
    database.pragma("journal_mode = WAL");
    database.pragma("synchronous = FULL");
    database.exec("create table if not exists blocks (key text primary key, bytes blob) without rowid");
    const [put, get, remove] = [
      "insert or replace into blocks values (?, ?)",
      "select bytes from blocks where key = ?",
      "delete from blocks where key = ?",
    ].map((sql) => database.prepare(sql));
    return {
      put: async (key, bytes) => put.run(key, bytes),
      get: async (key) => get.get(key)?.bytes,
      remove: async (key) => remove.run(key),
      close: async () => database.close(),
      size: () => statSync(join(dir, "b.sqlite")).size,
    };
  };
} catch {
  console.log("better-sqlite3 is not installed: SQLite is left out.");
}

const median = (times: number[]) => times.sort((a, b) => a - b)[times.length >> 1]!;
async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}
const keyOf = () => randomBytes(32).toString("hex");

console.log("| engine | block | put, ms | get, ms | open, ms | after replacing twice the count: file / stored |");
console.log("|---|---|---|---|---|---|");
for (const [name, openEngine] of Object.entries(engines)) {
  for (const bytes of [4 << 10, 1 << 20, 6 << 20]) {
    const dir = mkdtempSync(join(values.folder, "kvsplice-engines-"));
    try {
      let engine = openEngine(dir);
      const keys: string[] = [];
      const count = bytes > 1 << 20 ? COUNT / 4 : COUNT;
      const pattern = randomBytes(bytes * 2);
      const sized = () => pattern.subarray(0, bytes === 4096 ? bytes : Math.floor(bytes * (0.5 + Math.random())));
      const puts: number[] = [];
      const sizes = new Map<string, number>();
      const put = async () => {
        const key = keyOf();
        const value = sized();
        keys.push(key);
        sizes.set(key, value.length);
        puts.push(await timed(() => engine.put(key, value)));
      };
      for (let i = 0; i < count; i++) await put();
      const put_ms = median(puts);
      const gets: number[] = [];
      for (const key of keys) gets.push(await timed(() => engine.get(key)));
      await engine.close();
      let open_ms = 0;
      if (engine.size) open_ms = await timed(async () => void (await (engine = openEngine(dir)).get(keys[0]!)));
      for (let i = 0; i < 2 * count; i++) {
        const [gone] = keys.splice(Math.floor(Math.random() * keys.length), 1);
        await engine.remove(gone!);
        sizes.delete(gone!);
        await put();
      }
      const held = [...sizes.values()].reduce((sum, size) => sum + size, 0);
      const growth = engine.size ? (engine.size() / held).toFixed(2) : "1.00";
      console.log(
        `| ${name} | ${bytes >> 10} KiB | ${put_ms.toFixed(2)} | ${median(gets).toFixed(3)} | ${open_ms.toFixed(1)} | ${growth} |`,
      );
      await engine.close();
    } finally {
      rmSync(dir, { recursive: true });
    }
  }
}
