import { SingleBar } from "cli-progress";

export { sizeText } from "../plan/index.js";

export type ProgressBar = {
  /** Starts the bar on the first call. */
  tell(done: number, total: number, payload: Readonly<Record<string, string | number>>): void;
  stop(): void;
};

/** How often a command reports progress if there is no terminal, for people who read a log. */
const LINE_EVERY_MS = 60_000;

/** A progress bar on a terminal (none with `--json`); without a terminal, one line per minute. */
export function progressBar(format: string, { json }: { readonly json?: boolean | undefined }): ProgressBar {
  if (!process.stderr.isTTY) return progressLines(format);
  return json ? { tell: () => undefined, stop: () => undefined } : terminalBar(format);
}

function terminalBar(format: string): ProgressBar {
  const bar = new SingleBar({ format, hideCursor: true, stream: process.stderr, fps: 10, etaBuffer: 50 });
  let started = false;
  return {
    tell(done, total, payload) {
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

function progressLines(format: string): ProgressBar {
  const start = performance.now();
  let timer: NodeJS.Timeout | undefined;
  let line: (() => string) | undefined;
  return {
    tell(done, total, payload) {
      line = () => lineOf(format, { ...payload, value: done, total, ...shareOf(done, total, performance.now() - start) });
      timer ??= setInterval(() => process.stderr.write(`${line!()}\n`), LINE_EVERY_MS).unref();
    },
    stop() {
      clearInterval(timer);
      timer = undefined;
    },
  };
}

/** Calls `say` once a minute until `work` is done. */
export async function everyMinute<T>(say: () => void, work: Promise<T>): Promise<T> {
  const timer = setInterval(say, LINE_EVERY_MS);
  return work.finally(() => clearInterval(timer));
}

/** Fills in a format of cli-progress, without its bar. */
function lineOf(format: string, values: Readonly<Record<string, string | number>>): string {
  return format.replace("{bar} ", "").replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

function shareOf(done: number, total: number, elapsed_ms: number): { percentage: number; eta_formatted: string } {
  const percentage = total === 0 ? 100 : Math.floor((100 * done) / total);
  return { percentage, eta_formatted: done === 0 ? "?" : durationText((elapsed_ms / 1000) * ((total - done) / done)) };
}

/** `40 s`, `12 min`, `3.5 h` */
export function durationText(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
