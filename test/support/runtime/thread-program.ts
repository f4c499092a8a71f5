import { setImmediate } from "node:timers/promises";
import { KvspliceError } from "../../../plan/index.js";
import { answer, moved } from "../../../runtime/thread.js";

/** The thread for thread.test.ts. */
export type TestCalls = {
  twice(number: number): number;
  refuse(message: string): never;
  fail(message: string): never;
  /** Returns the same numbers, in the caller's memory. */
  back(numbers: Float32Array): Float32Array;
  /** Blocks the thread, as a pass does, until the caller sets the first number. */
  hold(until: Int32Array): string;
  later(news: readonly number[]): void;
  /** Reports progress, and never finishes. */
  forever(given: undefined): Promise<never>;
  die(message: string): Promise<never>;
};

const tell = answer<TestCalls>({
  twice: (number) => 2 * number,
  refuse(message) {
    throw new KvspliceError("too_long", message);
  },
  fail(message) {
    throw new TypeError(message);
  },
  back: (numbers) => moved(numbers, [numbers.buffer as ArrayBuffer]),
  hold(until) {
    Atomics.wait(until, 0, 0);
    return "held";
  },
  later(news) {
    for (const each of news) tell(each);
  },
  async forever() {
    for (let done = 0; ; done++) {
      tell(done);
      await setImmediate();
    }
  },
  die: (message) =>
    new Promise(() => {
      process.nextTick(() => {
        throw new Error(message);
      });
    }),
});
