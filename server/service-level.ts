import type { GenerationStats } from "../engine/index.js";
import { ApiError } from "./error.js";

/** Goals for answers, in milliseconds. Both are optional. */
export type Goals = { readonly firstToken_ms?: number | undefined; readonly token_ms?: number | undefined };

/** The engine's activity when a request arrives. */
export type Activity = { readonly running: number; readonly queued: number; readonly places: number };

/** The weight of a new measurement in the moving average. */
const NEW_SHARE = 0.2;

/** Older measurements are not trusted: an answer is admitted and measured. */
const BELIEVED_MS = 30_000;

type Mean = { readonly value: number; readonly at: number };

/**
 * Keeps answers within goals by refusing in advance those that would miss them, judged by the times of recent answers and
 * the queue. An idle server admits every request.
 */
export class ServiceLevel {
  private first: Mean | undefined;
  /** How long an answer occupies its place. */
  private hold: Mean | undefined;
  /** Time per token, by the number of answers computed together. */
  private readonly token = new Map<number, Mean>();

  constructor(
    private readonly goals: Goals,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Admits an answer that is expected to meet the goals.
   * @throws ApiError 429 with `retry-after` otherwise
   */
  admit(activity: Activity): void {
    const { firstToken_ms = Infinity, token_ms = Infinity } = this.goals;
    if (activity.running + activity.queued === 0) return;
    const [first, token] = [this.firstToken_ms(activity), this.token_ms(activity)];
    if (first > firstToken_ms)
      throw refusal(
        "first_token",
        `the first token is expected after ${Math.round(first)} ms, but the limit is ${firstToken_ms} ms`,
        first - firstToken_ms,
      );
    if (token > token_ms)
      throw refusal(
        "token",
        `a token is expected to take ${Math.round(token)} ms, but the limit is ${token_ms} ms`,
        this.believed(this.hold),
      );
  }

  /** Learns from an answer. @param together number of answers computed together at its end */
  observe({ queue_ms, first_token_ms, total_ms, per_token_ms, generated_tokens }: GenerationStats, together: number): void {
    this.first = this.mean(this.first, first_token_ms - queue_ms);
    this.hold = this.mean(this.hold, total_ms - queue_ms);
    if (generated_tokens > 1) this.token.set(together, this.mean(this.token.get(together), per_token_ms));
  }

  /** Whether an answer met both goals. @param first_ms time to the first token, from the request's arrival */
  isGood(first_ms: number, { per_token_ms }: GenerationStats): boolean {
    return first_ms <= (this.goals.firstToken_ms ?? Infinity) && per_token_ms <= (this.goals.token_ms ?? Infinity);
  }

  /** The expected time to the first token: an answer waits until enough of the earlier ones have ended. */
  private firstToken_ms({ running, queued, places }: Activity): number {
    const ahead = Math.max(0, running + queued + 1 - places);
    return (ahead / places) * this.believed(this.hold) + this.believed(this.first);
  }

  /** The expected time per token: the largest measured with at most as many answers together as there would be. */
  private token_ms({ running, places }: Activity): number {
    const together = Math.min(places, running + 1);
    return Math.max(0, ...[...this.token].map(([count, mean]) => (count <= together ? this.believed(mean) : 0)));
  }

  private mean(old: Mean | undefined, value: number): Mean {
    const believed = old && this.now() - old.at < BELIEVED_MS;
    return { value: believed ? old.value + NEW_SHARE * (value - old.value) : value, at: this.now() };
  }

  private believed(mean: Mean | undefined): number {
    return mean && this.now() - mean.at < BELIEVED_MS ? mean.value : 0;
  }
}

function refusal(goal: "first_token" | "token", why: string, wait_ms: number): ApiError {
  return new ApiError(429, `This server is too busy: ${why}. Try again later.`, {
    code: `slow_${goal}`,
    headers: { "retry-after": String(Math.max(1, Math.ceil(wait_ms / 1000))) },
  });
}
