import { createHash, type Hash } from "node:crypto";
import { existsSync } from "node:fs";
import { type FileHandle, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KvspliceError } from "../../../plan/index.js";
import { makeFolder, storageError, withFileLock } from "../../../storage/index.js";
import { connectionError, type Fetch, refusalError } from "./http.js";

/** A file to fetch. */
export type Download = {
  readonly url: string;
  /** Its name in messages. */
  readonly name: string;
  /** Where the complete file will be. */
  readonly path: string;
  /** Bytes, if known. */
  readonly size?: number | undefined;
  /** The hash of its content: SHA-256, or Git's hash (SHA-1) of a file that Git itself stores. */
  readonly hash?: { readonly kind: "sha256" | "git"; readonly hex: string } | undefined;
  /** Identifies this version of the content if its hash is unknown: a partial download of another version is not resumed. */
  readonly version?: string | undefined;
  readonly hasToken: boolean;
};

export type DownloadOptions = {
  /** The signal that `fetch` was made with. */
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of bytes that are here. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
  /** Called if another process is fetching the same file and this one waits for it. */
  readonly onWait?: (() => void) | undefined;
};

/** Attempts without receiving a byte, and the pause before the second; each later pause is twice as long. */
const TRIES = 5;
const FIRST_PAUSE_MS = 500;

/** `huggingface_hub`'s suffix for an incomplete file: either program can resume what the other has left. */
const INCOMPLETE = ".incomplete";

/**
 * Fetches a file, resuming where an earlier attempt ended. The file appears at its path only when all of it is there and
 * verified. If several processes want it, one fetches it and the others wait.
 *
 * @throws KvspliceError `unreachable`, `bad_file` if the content is not what was promised, `no_space`, `cancelled`
 */
export async function download(file: Download, fetch: Fetch, options: DownloadOptions = {}): Promise<void> {
  if (existsSync(file.path)) return;
  const incomplete = `${file.path}${file.version ? `.${createHash("sha256").update(file.version).digest("hex").slice(0, 16)}` : ""}${INCOMPLETE}`;
  try {
    makeFolder(dirname(file.path));
    await withFileLock(
      `${incomplete}.lock`,
      async () => {
        if (existsSync(file.path)) return;
        await fetchRest(file, incomplete, fetch, options);
        await rename(incomplete, file.path);
      },
      options,
    );
  } catch (error) {
    throw storageError(
      options.signal?.aborted ? connectionError(error, file.url, options.signal) : error,
      file.name,
      "set HF_HUB_CACHE to a folder with enough room",
    );
  }
}

/** Completes the incomplete file, and verifies it. */
async function fetchRest(file: Download, path: string, fetch: Fetch, options: DownloadOptions): Promise<void> {
  const handle = await open(path, "a+");
  try {
    let have = (await handle.stat()).size;
    const isKnown = file.hash !== undefined || file.version !== undefined;
    if (!isKnown || (file.size !== undefined && have > file.size)) have = await restart(handle);
    for (let tries = 0; ; ) {
      const before = have;
      try {
        have = await append(file, handle, have, fetch, options);
        if (file.size === undefined || have === file.size) break;
        if (have > file.size) throw other(file, `has at least ${have} bytes, but ${file.size} were expected`);
        throw new Error("the connection ended early");
      } catch (error) {
        have = (await handle.stat()).size;
        tries = have > before ? 0 : tries + 1;
        if (error instanceof KvspliceError || options.signal?.aborted || tries === TRIES || isOfDisk(error)) {
          if (error instanceof KvspliceError && error.code === "bad_file") await restart(handle);
          throw isOfDisk(error) ? error : connectionError(error, file.url, options.signal);
        }
        await sleep(FIRST_PAUSE_MS * 2 ** tries, undefined, { signal: options.signal });
      }
    }
    await verify(file, handle, have);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** One request for everything from byte `have` on; returns the new number of bytes. */
async function append(file: Download, handle: FileHandle, have: number, fetch: Fetch, { onBytes }: DownloadOptions): Promise<number> {
  if (file.size !== undefined && have === file.size) return have;
  const response = await fetch(file.url, { headers: { "accept-encoding": "identity", ...(have > 0 && { range: `bytes=${have}-` }) } });
  try {
    if (response.status === 416) return await restart(handle); // it has become shorter, or is complete: the next attempt starts over
    if (response.status >= 500) throw new Error(`the server answered ${response.status}`);
    if (!response.ok || !response.body) throw refusalError(response.status, file.name, file.hasToken);
    const goesOn = response.status === 206 && new RegExp(`^bytes ${have}-`).test(response.headers.get("content-range") ?? "");
    let at = have > 0 && !goesOn ? await restart(handle) : have;
    onBytes?.(at);
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
      await handle.appendFile(bytes);
      at += bytes.length;
      onBytes?.(at);
      if (file.size !== undefined && at > file.size) break;
    }
    return at;
  } finally {
    await response.body?.cancel().catch(() => undefined);
  }
}

async function restart(handle: FileHandle): Promise<number> {
  await handle.truncate(0);
  return 0;
}

async function verify(file: Download, handle: FileHandle, size: number): Promise<void> {
  if (!file.hash) return;
  const hash = startHash(file.hash.kind, size);
  const buffer = Buffer.alloc(1 << 20);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  if (hash.digest("hex") === file.hash.hex) return;
  await restart(handle);
  throw other(file, "does not have the expected content: its hash differs");
}

function startHash(kind: "sha256" | "git", size: number): Hash {
  return kind === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${size}\0`);
}

function other(file: Download, how: string): KvspliceError {
  return new KvspliceError(
    "bad_file",
    `The download of ${file.name} ${how}. It was discarded; try again. If this recurs, a proxy may be changing it.`,
  );
}

function isOfDisk(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EIO"].includes((error as NodeJS.ErrnoException).code ?? "");
}
