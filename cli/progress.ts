import { SingleBar } from "cli-progress";

export type ProgressBar = {
  /** Begins the bar when first called. */
  tell(done: number, total: number, payload: Readonly<Record<string, string | number>>): void;
  stop(): void;
};

/** A bar on the terminal; nothing where there is none, and beside `--json`. */
export function progressBar(format: string, { json }: { readonly json?: boolean | undefined }): ProgressBar {
  const bar = new SingleBar({ format, hideCursor: true, stream: process.stderr, fps: 10, etaBuffer: 50 });
  const quiet = json === true || !process.stderr.isTTY;
  let started = false;
  return {
    tell(done, total, payload) {
      if (quiet) return;
      if (!started) bar.start(total, done, payload);
      else {
        bar.setTotal(total);
        bar.update(done, payload);
      }
      started = true;
    },
    stop() {
      if (started) bar.stop();
      started = false;
    },
  };
}

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** Bytes for people, in powers of 1024 as the store's budgets are written. */
export function sizeText(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[power]}`;
}
