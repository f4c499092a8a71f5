import { setMaxListeners } from "node:events";
import { KvspliceError } from "../plan/index.js";

/** A piece of work of something that can be closed. */
export type Work = {
  /** Aborted when the caller's signal is, or when what it belongs to is closed. */
  readonly signal: AbortSignal;
  /** Ends it from within. */
  abort(reason: KvspliceError): void;
  /** It has ended, and holds nothing. */
  done(): void;
};

/** What is open until it is closed: closing lets no further work begin, ends what runs, and waits for its end. */
export class Lifetime {
  private readonly works = new Map<Work, Promise<void>>();
  private readonly closer = new AbortController();

  /** @param closed says what is closed and what to do */
  constructor(private readonly closed: string) {}

  /** Aborted when it is closed. */
  get signal(): AbortSignal {
    return this.closer.signal;
  }

  /** @throws KvspliceError `closed` */
  mustBeOpen(): void {
    if (this.signal.aborted) throw this.signal.reason;
  }

  /** @throws KvspliceError `closed` */
  begin(signal?: AbortSignal): Work {
    this.mustBeOpen();
    const controller = new AbortController();
    const forward = () => controller.abort(signal?.reason);
    if (signal) setMaxListeners(0, signal); // an answer's signal is listened to by each of the blocks that it encodes
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
      },
    };
    this.works.set(work, ended);
    return work;
  }

  /** Does some work that ends by itself, or by the signal that it is given. */
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

  /** Ends all work with KvspliceError `closed`, and resolves when none is left. Again, it waits too. */
  async close(): Promise<void> {
    const reason = new KvspliceError("closed", this.closed);
    if (!this.signal.aborted) this.closer.abort(reason);
    for (const work of this.works.keys()) work.abort(this.signal.reason as KvspliceError);
    await Promise.all(this.works.values());
  }
}
