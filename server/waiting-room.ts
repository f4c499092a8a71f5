import { ApiError } from "./error.js";

/** When to try again: about an answer's time. */
const RETRY_AFTER_S = 2;

/** Counts the answers that wait for their first token, and refuses more than it holds. */
export class WaitingRoom {
  private waiting = 0;

  constructor(private readonly places: number) {}

  get size(): number {
    return this.waiting;
  }

  /**
   * Takes a place; call what it returns when the first token is there, or the answer has failed. Twice does no harm.
   * @throws ApiError 429 when all places are taken
   */
  enter(): () => void {
    if (this.waiting >= this.places) {
      throw new ApiError(429, `${this.waiting} answers are waiting, as many as this server lets wait; try again shortly.`, {
        code: "queue_full",
        headers: { "retry-after": String(RETRY_AFTER_S) },
      });
    }
    this.waiting++;
    let left = false;
    return () => {
      if (!left) this.waiting--;
      left = true;
    };
  }
}
