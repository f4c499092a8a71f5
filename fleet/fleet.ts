import { setTimeout } from "node:timers/promises";

import pLimit from "p-limit";

import { type BlockKey, type BlockSource, type BlockStore, KvspliceError, type Model } from "../engine/index.js";
import type { BlockEncoder, EncodeMissingOptions } from "../rag/index.js";
import { type Bullmq, importBullmq } from "./bullmq.js";
import { adapterOptions, type Encoded, type EncodeJob, jobOf, kindOf, LATER, PREFIX } from "./job.js";
import { JobQueue } from "./queue.js";
import { connectionNames, mustReach, withoutPassword } from "./redis.js";

/** The queue, and the model whose blocks its workers encode. */
export type FleetOptions = {
  /** The queue's Redis. */
  readonly url: string;
  /** Gives the blocks their keys. It does not encode anything here. */
  readonly model: Pick<Model, "id" | "name" | "precision" | "adapters" | "keyOf">;
  /** The store with the shared tier that workers put blocks into. */
  readonly store: BlockStore;
  /** Called with a sentence about problems that a person may want to fix: there is no worker, or Redis cannot be reached. */
  readonly onNotice?: ((notice: string) => void) | undefined;
};

/** What the fleet has done since it was opened, for this or any other client. */
export type FleetActivity = {
  /** Workers for this kind of block that are connected now. */
  readonly workers: number;
  /** Encoded blocks and their tokens. */
  readonly blocks: number;
  readonly tokens: number;
  /** Jobs given to another worker because theirs stopped responding. */
  readonly redone: number;
};

/** Maximum requested blocks that have not arrived: enough to keep a large fleet busy, and a limit on the data in Redis. */
const MOST_ASKED = 1024;

/** Maximum blocks fetched from the shared tier at once. Each has several megabytes. */
const MOST_PULLED = 4;

/** A failed job is retried by any free worker, after 2, 4, 8 and 16 s. */
const ATTEMPTS = 5;
const BACKOFF_MS = 2000;

/**
 * Maximum requests for a block that is not in the shared tier afterwards. It may have been evicted, or the tier may be
 * unreachable for a moment. The wait grows each time.
 */
const MOST_LOSSES = 4;
const LOSS_WAIT_MS = 5000;

const NO_WORKER_AFTER_MS = 8000;

/** After this time, a request is checked for whether it is still in the queue. */
const OVERDUE_MS = 10_000;

type Ask = {
  readonly job: EncodeJob;
  readonly result: Promise<Encoded>;
  resolve(encoded: Encoded): void;
  reject(error: unknown): void;
  asked_ms: number;
};

/**
 * Lets workers on any machine do the encoding, through a BullMQ queue in Redis. They put blocks into the shared tier, and
 * the fleet pulls them from there into the other tiers of its store.
 *
 *     const fleet = await openFleet({ url: "redis://host:6379", model, store });
 *     await corpus.precompute(["docs/"], { encoder: fleet });
 *     await fleet.close();
 *
 * @throws KvspliceError `bad_argument` for an invalid Redis URL or if bullmq is not installed, `unreachable`
 */
export async function openFleet(options: FleetOptions): Promise<Fleet> {
  const bullmq = await importBullmq();
  await mustReach(options.url);
  const fleet = new Fleet(options, bullmq);
  await fleet.ready();
  return fleet;
}

/** Encodes blocks through workers: see `openFleet`. It is an `encoder` for `Corpus.precompute`. */
export class Fleet implements BlockEncoder {
  readonly atOnce = 64;
  private readonly jobs: JobQueue;
  private readonly asks = new Map<BlockKey, Ask>();
  private readonly room = pLimit(MOST_ASKED);
  private readonly pulls = pLimit(MOST_PULLED);
  private done = { workers: 0, blocks: 0, tokens: 0, redone: 0 };
  private failure: unknown;
  private looking = false;
  private lastWorker_ms = performance.now();
  private readonly heard = new WeakSet<AbortSignal>();
  private readonly closed = new AbortController();
  private readonly noticed = new Set<"no worker" | "away">();

  /** @internal Use `openFleet`. */
  constructor(
    private readonly options: FleetOptions,
    bullmq: Bullmq,
  ) {
    const jobs = { attempts: ATTEMPTS, backoff: { type: "exponential", delay: BACKOFF_MS } };
    this.jobs = new JobQueue({ ...options, jobs, look: () => this.look(), onAway: this.onAway }, bullmq);
    const { events } = this.jobs;
    events.on("completed", ({ jobId, returnvalue }) => this.onCompleted(jobId, returnvalue as unknown as Encoded));
    events.on("failed", ({ jobId, failedReason }) => this.onFailed(jobId, failedReason));
    events.on("stalled", () => this.done.redone++);
    events.on("removed", ({ jobId }) => void this.putAgain(jobId));
  }

  /** What workers have done for this fleet so far. */
  get activity(): FleetActivity {
    return { ...this.done };
  }

  /** @internal Resolves when events are received. */
  ready(): Promise<void> {
    return this.jobs.ready();
  }

  /**
   * @throws KvspliceError `job_failed` if the workers cannot encode the block, `bad_store` if it is missing from the shared
   *   tier afterwards, `cancelled`
   */
  async encodeMissing(key: BlockKey, source: BlockSource, { signal }: EncodeMissingOptions = {}): Promise<boolean> {
    return this.room(async () => {
      if ((await this.options.store.has(key)) && (await this.pull(key))) return false;
      for (let losses = 0; losses < MOST_LOSSES; losses++) {
        await this.ask(key, source, signal);
        if (await this.pull(key)) return true;
        await setTimeout(losses * LOSS_WAIT_MS, undefined, { signal: this.closed.signal }).catch(() => undefined);
      }
      throw new KvspliceError(
        "bad_store",
        `A worker stored block ${key.slice(0, 12)}, but it is not in the shared tier of this store. Give both the same shared tier, with room for more blocks.`,
      );
    });
  }

  /** Withdraws the jobs that no worker has begun. The others still go to the shared tier, where the next run finds them. */
  async close(): Promise<void> {
    this.closed.abort();
    this.fail(new KvspliceError("cancelled", "The fleet was closed."));
    await this.jobs.close([...this.asks.keys()]);
  }

  private async pull(key: BlockKey): Promise<boolean> {
    return this.pulls(async () => (await this.options.store.get(key)) !== undefined);
  }

  private async ask(key: BlockKey, source: BlockSource, signal: AbortSignal | undefined): Promise<Encoded> {
    if (signal !== undefined) this.hear(signal);
    if (this.failure !== undefined) throw this.failure;
    return (this.asks.get(key) ?? (await this.put(key, source))).result;
  }

  /** Adds one listener per signal, however many blocks are requested with it. */
  private hear(signal: AbortSignal): void {
    if (this.heard.has(signal)) return;
    this.heard.add(signal);
    const onAbort = () =>
      this.fail(new KvspliceError("cancelled", "Cancelled. What was encoded is kept; run again to continue.", { cause: signal.reason }));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true, signal: this.closed.signal });
  }

  private async put(key: BlockKey, source: BlockSource): Promise<Ask> {
    const job = jobOf(this.options.model, key, source);
    let settle!: Pick<Ask, "resolve" | "reject">;
    const result = new Promise<Encoded>((resolve, reject) => (settle = { resolve, reject }));
    result.catch(() => undefined); // reported to the caller that awaits it
    const ask: Ask = { job, result, ...settle, asked_ms: performance.now() };
    this.asks.set(key, ask);
    await Promise.race([this.jobs.queue.add("encode", job, { jobId: key, priority: LATER }), result]);
    return ask;
  }

  private onCompleted(key: string, { tokens, encoded }: Encoded): void {
    if (encoded) {
      this.done.blocks++;
      this.done.tokens += tokens;
    }
    this.asks.get(key)?.resolve({ tokens, encoded });
    this.asks.delete(key);
  }

  private onFailed(key: string, reason: string): void {
    if (!this.asks.has(key)) return;
    this.fail(
      new KvspliceError(
        "job_failed",
        `The workers cannot encode block ${key.slice(0, 12)}: ${reason} What was encoded is kept. Fix the problem and run again.`,
      ),
    );
  }

  /** Ends the run: without this block, the corpus would be incomplete. */
  private fail(error: unknown): void {
    this.failure ??= error;
    for (const ask of this.asks.values()) ask.reject(this.failure);
  }

  private readonly onAway = (error: Error): void => {
    this.notice(
      "away",
      `The queue at ${withoutPassword(this.options.url)} does not answer (${error.message}); waiting for it. Press Ctrl-C to stop; what was encoded is kept.`,
    );
  };

  private notice(what: "no worker" | "away", sentence: string): void {
    if (this.noticed.has(what)) return;
    this.noticed.add(what);
    this.options.onNotice?.(sentence);
  }

  /** Counts the workers, and repeats requests that have waited too long. */
  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      const now = performance.now();
      this.done.workers = await this.jobs.queue.getWorkersCount();
      this.noticed.delete("away");
      if (this.done.workers > 0 || this.asks.size === 0) {
        this.lastWorker_ms = now;
        if (this.done.workers > 0) this.noticed.delete("no worker");
      } else if (now - this.lastWorker_ms > NO_WORKER_AFTER_MS) await this.tellNoWorker();
      await this.askAgain(now);
    } catch (error) {
      this.onAway(error as Error);
    } finally {
      this.looking = false;
    }
  }

  private async tellNoWorker(): Promise<void> {
    if (this.noticed.has("no worker")) return;
    const { url, model } = this.options;
    const others = (await connectionNames(url)).filter((name) => name.startsWith(`${PREFIX}:`) && name.includes(":w:"));
    this.notice(
      "no worker",
      `There is no worker for ${kindOf(model)} at ${withoutPassword(url)}` +
        (others.length === 0 ? "" : `; the ${others.length} there use a different model or precision`) +
        `. Start some: kvsplice worker --queue ${withoutPassword(url)}${adapterOptions(model.adapters)}`,
    );
  }

  /**
   * Repeats requests that are no longer in the queue. An event may have been missed (its stream is bounded), or Redis may have
   * been restarted without its data. If the block exists already, the worker that takes the job reports that.
   */
  private async askAgain(now: number): Promise<void> {
    for (const [key, ask] of [...this.asks]) {
      if (now - ask.asked_ms < OVERDUE_MS) continue;
      ask.asked_ms = now;
      if ((await this.jobs.queue.getJobState(key)) === "unknown") await this.putAgain(key);
    }
  }

  /** Another precompute that was stopped may have withdrawn a job that this one also waits for. */
  private async putAgain(key: BlockKey): Promise<void> {
    const ask = this.asks.get(key);
    if (ask && !this.closed.signal.aborted)
      await this.jobs.queue.add("encode", ask.job, { jobId: key, priority: LATER }).catch(this.onAway);
  }
}
