import { cancelledError } from "../../plan/index.js";

/** How often one that waits may be passed over by others that came later. */
const MAX_PASSED_OVER = 4;

type Waiting = {
  readonly prepare: () => Promise<unknown>;
  readonly admit: () => void;
  preparing: boolean;
  ready: boolean;
  passedOver: number;
};

/**
 * Lets a bounded number of answers run at once. Of those that wait, the first ones get their blocks ready, and whose
 * blocks are in memory goes first, until one that came earlier has been passed over too often.
 */
export class Admission {
  private readonly queue: Waiting[] = [];
  private inside = 0;

  constructor(private readonly places: number) {}

  get running(): number {
    return this.inside;
  }

  get queued(): number {
    return this.queue.length;
  }

  /**
   * Resolves when there is a place; `leave` gives it back.
   * @param prepare begun while waiting; its failure is left to whoever awaits it
   * @throws KvspliceError `cancelled`
   */
  async enter(prepare: () => Promise<unknown>, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) throw cancelledError(signal);
    if (this.inside < this.places) {
      this.inside++;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        prepare,
        admit: () => {
          signal?.removeEventListener("abort", giveUp);
          resolve();
        },
        preparing: false,
        ready: false,
        passedOver: 0,
      };
      const giveUp = () => {
        this.queue.splice(this.queue.indexOf(waiting), 1);
        reject(cancelledError(signal));
      };
      signal?.addEventListener("abort", giveUp, { once: true });
      this.queue.push(waiting);
      this.prepareFirst();
    });
  }

  leave(): void {
    const next = this.queue.length > 0 ? this.takeNext() : undefined;
    if (next) next.admit();
    else this.inside--;
    this.prepareFirst();
  }

  private takeNext(): Waiting {
    const oldest = this.queue[0]!;
    const chosen = oldest.passedOver >= MAX_PASSED_OVER ? oldest : (this.queue.find(({ ready }) => ready) ?? oldest);
    const index = this.queue.indexOf(chosen);
    for (const passed of this.queue.slice(0, index)) passed.passedOver++;
    this.queue.splice(index, 1);
    return chosen;
  }

  /** As many as there are places: their blocks take memory. */
  private prepareFirst(): void {
    for (const waiting of this.queue.slice(0, this.places)) {
      if (waiting.preparing) continue;
      waiting.preparing = true;
      waiting.prepare().then(
        () => (waiting.ready = true),
        () => (waiting.ready = true), // it fails when it is its turn
      );
    }
  }
}
