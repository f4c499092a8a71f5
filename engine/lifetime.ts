import { setMaxListeners } from "node:events";
import { KvspliceError } from "../plan/index.js";

/** One piece of work of an object that can be closed. */
export type Work = {
  /** Aborted when the caller's signal is, or when the owner is closed. */
  readonly signal: AbortSignal;
  /** Ends it from inside. */
  abort(reason: KvspliceError): void;
  /** Marks it as ended, with nothing left to free. */
  done(): void;
};

/** Something that is open until closed. Closing it lets no more work begin, ends what is running, and waits for that. */
export class Lifetime {
  private readonly works = new Map<Work, Promise<void>>();
  private readonly closer = new AbortController();

  /** @param closed error message: what was closed, and what to do */
  constructor(private readonly closed: string) {}

  /** Aborted when it is closed. */
  get signal(): AbortSignal {
    return this.closer.signal;
  }

  /** @throws KvspliceError `closed` */
  mustBeOpen(): void {
    if (this.signal.aborted) throw this.signal.reason;
  }

  /**
   * @param within another owner of the work: closing that ends the work too, and waits for it
   * @throws KvspliceError `closed`
   */
  begin(caller?: AbortSignal, within?: Lifetime): Work {
    this.mustBeOpen();
    const around = within?.begin(caller);
    const signal = around?.signal ?? caller;
    const controller = new AbortController();
    const forward = () => controller.abort(signal?.reason);
    if (signal) setMaxListeners(0, signal); // each block that an answer encodes listens to the answer's signal
    signal?.addEventListener("abort", forward, { once: true });
    if (signal?.aborted) forward();
    let end!: () => void;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const work: Work = {
      signal: controller.signal,
      abort: (reason) => controller.abort(reason),
      done: () => {
        signal?.removeEventListener("abort", forward);
        this.works.delete(work);
        end();
        around?.done();
      },
    };
    this.works.set(work, ended);
    return work;
  }

  /** Runs work that ends by itself or by the signal it is given. */
  async run<T>(signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal: own, done } = this.begin(signal);
    try {
      return await work(own);
    } catch (error) {
      const wasCancelled = error instanceof KvspliceError && error.code === "cancelled";
      throw wasCancelled && this.signal.aborted && own.reason === this.signal.reason ? own.reason : error;
    } finally {
      done();
    }
  }

  /** Ends all work with KvspliceError `closed`, and resolves when none is left. Later calls wait too. */
  async close(): Promise<void> {
    const reason = new KvspliceError("closed", this.closed);
    if (!this.signal.aborted) this.closer.abort(reason);
    for (const work of this.works.keys()) work.abort(this.signal.reason as KvspliceError);
    await Promise.all(this.works.values());
  }
}
