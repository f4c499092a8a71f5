/** Assumed speed of an unmeasured machine. It is equal for both sides, so the one with less to do is chosen. */
const UNMEASURED_TOKENS_PER_MS = 0.1;

/** Assumed time to request a block, wait for a worker and fetch it, before this is measured. */
const UNMEASURED_TRANSFER_MS = 50;

/** The weight of a new measurement in the moving average. */
const NEW_SHARE = 0.3;

/** Estimates when a block would be ready here and from the workers, from their work in progress and measured speeds. */
export class Expectation {
  /** Workers, and jobs of others ahead of ours, at the last count. */
  workers = 0;
  waiting = 0;
  /** Tokens being encoded or waiting to be. */
  readonly inHand = { here: 0, there: 0 };
  readonly isMeasured = { here: false, there: false };
  private readonly speed = { here: UNMEASURED_TOKENS_PER_MS, there: UNMEASURED_TOKENS_PER_MS };
  private transfer_ms = UNMEASURED_TRANSFER_MS;

  /** Time until this machine has encoded a block. */
  here_ms(tokens: number): number {
    return (this.inHand.here + tokens) / this.speed.here;
  }

  /** Time until a worker has encoded it: after the work in progress, shared by the workers, and at least one worker's time for it. */
  encodingThere_ms(tokens: number): number {
    const all = this.inHand.there + this.waiting * tokens + tokens;
    return Math.max(tokens, all / Math.max(1, this.workers)) / this.speed.there;
  }

  /** Time until a block encoded by a worker is here. */
  there_ms(tokens: number): number {
    return this.encodingThere_ms(tokens) + this.transfer_ms;
  }

  measure(where: "here" | "there", tokens: number, took_ms: number): void {
    const speed = tokens / took_ms;
    this.speed[where] = this.isMeasured[where] ? this.speed[where] + NEW_SHARE * (speed - this.speed[where]) : speed;
    this.isMeasured[where] = true;
  }

  /** @param beyond_ms wait for a block, minus the encoding time expected when it was requested */
  measureTransfer(beyond_ms: number): void {
    this.transfer_ms += NEW_SHARE * (Math.max(0, beyond_ms) - this.transfer_ms);
  }
}
