import { setImmediate } from "node:timers/promises";
import { cancelledError } from "./error.js";

/** How long work may block the thread that also answers others. */
const SLICE_MS = 10;

/** Long work that shares its thread: it calls `breathe` after each small step, and waits there when its time slice is over. */
export class Pace {
  private started = performance.now();

  constructor(private readonly signal?: AbortSignal | undefined) {}

  /** @throws KvspliceError `cancelled` when the signal is aborted */
  async breathe(): Promise<void> {
    if (performance.now() - this.started < SLICE_MS) return;
    await setImmediate();
    if (this.signal?.aborted) throw cancelledError(this.signal);
    this.started = performance.now();
  }
}
