import { basename, resolve } from "node:path";

import picomatch from "picomatch";

import { SKIPPED_FOLDERS } from "./list.js";

/** Changes in quick succession count as one: an editor writes a file in several steps, a checkout writes many files. */
const QUIET_MS = 500;

/** What to do about changes, and until when. */
export type WatchOptions = {
  readonly signal: AbortSignal;
  /** Called once when watching has begun, then after each change, never concurrently; a change during a call causes another call. */
  readonly onChange: () => Promise<void>;
};

/** Watches files, folders and globs until the signal. An error thrown by `onChange` ends it. */
export async function watchFiles(names: readonly string[], { signal, onChange }: WatchOptions): Promise<void> {
  const { watch } = await import("chokidar");
  const places = names.map((name) => picomatch.scan(name)).map(({ isGlob, base, input }) => resolve(isGlob ? base : input));
  const watcher = watch(places, { ignoreInitial: true, ignored: (path) => !places.includes(path) && isIgnored(basename(path)) });
  try {
    await new Promise<void>((resolved, rejected) => {
      let timer: NodeJS.Timeout | undefined;
      let running: Promise<void> = Promise.resolve();
      const end = () => {
        clearTimeout(timer);
        void running.then(resolved, rejected);
      };
      const change = () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          running = running.then(onChange);
          running.catch(rejected);
        }, QUIET_MS);
      };
      watcher.on("all", change);
      watcher.on("ready", change); // what changed before the watch began
      watcher.on("error", rejected);
      if (signal.aborted) end();
      else signal.addEventListener("abort", end, { once: true });
    });
  } finally {
    await watcher.close();
  }
}

function isIgnored(name: string): boolean {
  return name.startsWith(".") || SKIPPED_FOLDERS.has(name);
}
