import { createHash } from "node:crypto";
import { readFile, realpath, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder } from "../storage/index.js";
import type { LoadProgress } from "./load-progress.js";
import type { ModelFile } from "./model/files/model-file.js";

/**
 * A model's content hash. It is cached by the files' paths, sizes and times, so that files which have not changed are read
 * only once.
 */
export async function contentHash(file: ModelFile, cacheDir: string, onProgress?: (progress: LoadProgress) => void): Promise<string> {
  const stamps = await Promise.all(file.parts.map(stampOf));
  const folder = join(cacheDir, "hashes");
  const path = join(
    folder,
    createHash("sha256")
      .update(stamps.map((stamp) => stamp.path).join("\n"))
      .digest("hex"),
  );
  const own = stamps.map((stamp) => JSON.stringify(stamp)).join("\n");
  const [hash, ...kept] = (await readFile(path, "utf8").catch(() => "")).split("\n");
  if (hash && kept.join("\n") === own) return hash;
  const total = stamps.reduce((sum, { size }) => sum + size, 0);
  onProgress?.({ step: "hash", done: 0, total, remaining_ms: undefined });
  const found = await file.contentHash();
  onProgress?.({ step: "hash", done: total, total, remaining_ms: 0 });
  await keep(folder, path, `${found}\n${own}`).catch(() => undefined); // then it is read again next time
  return found;
}

type Stamp = { readonly path: string; readonly size: number; readonly time: string };

async function stampOf(path: string): Promise<Stamp> {
  const { size, mtimeNs } = await stat(path, { bigint: true });
  return { path: await realpath(path), size: Number(size), time: String(mtimeNs) };
}

async function keep(folder: string, path: string, text: string): Promise<void> {
  makeFolder(folder);
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, text);
  await rename(draft, path);
}
