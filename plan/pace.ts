import { setImmediate } from "node:timers/promises";

/** How long work may hold the thread that answers others. */
const SLICE_MS = 10;

/** Long work that lets others have the thread: it asks after each small step, and waits when its slice is over. */
export class Pace {
  private started = performance.now();

  /** Whether the slice is over. */
  get over(): boolean {
    return performance.now() - this.started >= SLICE_MS;
  }

  /** Lets whatever waits go first. */
  async rest(): Promise<void> {
    await setImmediate();
    this.started = performance.now();
  }
}
