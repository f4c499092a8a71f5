import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

/** A holder touches its lock this often; a lock that was not touched for `LEFT_OVER_AFTER_MS` is stale, whichever process made it. */
const TOUCH_EVERY_MS = 5_000;
const LEFT_OVER_AFTER_MS = 30_000;
const LOOK_EVERY_MS = 200;

export type FileLockOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Called once, if another process holds the lock. */
  readonly onWait?: (() => void) | undefined;
};

/**
 * Runs `use` while no other process does so with the same path. The lock is a file that names its holder. A lock whose
 * holder has ended, or has not touched it for half a minute, is taken over.
 */
export async function withFileLock<T>(path: string, use: () => Promise<T>, { signal, onWait }: FileLockOptions = {}): Promise<T> {
  const holder = `${process.pid} ${hostname()} ${randomUUID()}`;
  for (let waited = false; !(await tryCreate(path, holder)); waited = true) {
    const leftOver = await leftOverHolder(path);
    if (leftOver !== undefined) {
      await remove(path, leftOver);
      continue;
    }
    if (!waited) onWait?.();
    await sleep(LOOK_EVERY_MS, undefined, { signal });
  }
  const timer = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => undefined), TOUCH_EVERY_MS);
  timer.unref();
  try {
    return await use();
  } finally {
    clearInterval(timer);
    await rm(path, { force: true });
  }
}

/** Whether a process holds the lock. */
export async function isFileLocked(path: string): Promise<boolean> {
  return existsSync(path) && (await leftOverHolder(path)) === undefined;
}

async function tryCreate(path: string, holder: string): Promise<boolean> {
  try {
    const file = await open(path, "wx");
    await file.writeFile(holder);
    await file.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** The holder that a lock names, if that holder is gone. */
async function leftOverHolder(path: string): Promise<string | undefined> {
  try {
    const [holder, { mtimeMs }] = await Promise.all([readFile(path, "utf8"), stat(path)]);
    const [pid, host] = holder.split(" ");
    const isLeftOver = Date.now() - mtimeMs > LEFT_OVER_AFTER_MS || (host === hostname() && !isRunning(Number(pid)));
    return isLeftOver ? holder : undefined;
  } catch {
    return undefined; // it is gone, or the next attempt to create it will show that it is not
  }
}

/** Removes a lock of this holder, but not of another that has taken it since. */
async function remove(path: string, holder: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
    if ((await readFile(aside, "utf8")) === holder) await rm(aside, { force: true });
    else await rename(aside, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // another process removed it first
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
