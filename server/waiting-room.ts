import { ApiError } from "./error.js";

/** When to try again: after about the time that one answer takes. */
const RETRY_AFTER_S = 2;

/** Counts the answers waiting for their first token, and refuses those beyond its limit. */
export class WaitingRoom {
  private waiting = 0;

  constructor(private readonly places: number) {}

  get size(): number {
    return this.waiting;
  }

  /**
   * Takes a place for each answer. Call the returned function when the first token is ready or they have failed; calling it
   * again does nothing.
   * @throws ApiError 429 if there are not enough free places
   */
  enter(answers = 1): () => void {
    if (this.waiting + answers > this.places) {
      throw new ApiError(429, `${this.waiting} answers are waiting, and this server allows ${this.places}. Try again shortly.`, {
        code: "queue_full",
        headers: { "retry-after": String(RETRY_AFTER_S) },
      });
    }
    this.waiting += answers;
    let left = false;
    return () => {
      if (!left) this.waiting -= answers;
      left = true;
    };
  }
}
