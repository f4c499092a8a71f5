import { basename, resolve } from "node:path";

import picomatch from "picomatch";

import { SKIPPED_FOLDERS } from "./list.js";

/** Changes that come together are one: an editor writes a file in several steps, a checkout many files. */
const QUIET_MS = 500;

export type WatchOptions = {
  readonly signal: AbortSignal;
  /** Called once when the watch has begun, then after a change, and not again before it has ended; a change meanwhile calls it again. */
  readonly onChange: () => Promise<void>;
};

/** Watches files, folders and globs until the signal. What `onChange` throws ends it. */
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
