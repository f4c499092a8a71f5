import { setTimeout } from "node:timers/promises";

import { Queue, QueueEvents } from "bullmq";
import pLimit from "p-limit";

import { KvspliceError, type BlockKey, type BlockSource, type BlockStore, type Model } from "../engine/index.js";
import type { BlockSupply, SupplyOptions } from "../rag/index.js";
import { type Encoded, type EncodeJob, kindOf, PREFIX, queueOf } from "./job.js";
import { connectionNames, connectionTo, mustReach, withoutPassword } from "./redis.js";

export type FleetOptions = {
  /** The queue's Redis. */
  readonly url: string;
  /** Names the blocks; it encodes none of them here. */
  readonly model: Pick<Model, "id" | "name" | "precision" | "keyOf">;
  /** Has the shared tier that the workers put blocks into. */
  readonly store: BlockStore;
  /** Told, in a sentence, of what a person may want to mend: no worker is there, Redis is away. */
  readonly onNotice?: ((notice: string) => void) | undefined;
};

/** What the fleet has done since it was opened, for whomever. */
export type FleetActivity = {
  /** Workers of this kind of block that are at the queue now. */
  readonly workers: number;
  /** Blocks encoded, and their tokens. */
  readonly blocks: number;
  readonly tokens: number;
  /** Jobs that were given to another worker because theirs fell silent. */
  readonly redone: number;
};

/** Blocks asked for and not yet here: enough for a large fleet to be busy, and a bound on what lies in Redis. */
const MOST_ASKED = 1024;

/** Blocks on their way from the shared tier: each is megabytes. */
const MOST_PULLED = 4;

/** A failed job is tried again by whichever worker is free, after 2, 4, 8 and 16 s. */
const ATTEMPTS = 5;
const BACKOFF_MS = 2000;

/**
 * Times that a block is asked for where the shared tier does not give it. It may have been evicted, or the tier is away
 * for a moment; each time is waited for longer.
 */
const MOST_LOSSES = 4;
const LOSS_WAIT_MS = 5000;

const LOOK_EVERY_MS = 1000;
const NO_WORKER_AFTER_MS = 8000;

/** What has been asked for longer is looked up in the queue, whether it is still there. */
const OVERDUE_MS = 10_000;

/** A Redis that is away is not waited for at the end. */
const CLOSE_WITHIN_MS = 3000;

type Ask = { readonly job: EncodeJob; readonly result: Promise<Encoded>; resolve(encoded: Encoded): void; reject(error: unknown): void; asked_ms: number };

/**
 * Leaves the encoding to workers, on any machine, by a BullMQ queue in Redis; they put the blocks into the shared
 * tier, and the fleet pulls them from there into the tiers of its store.
 *
 *     const fleet = await openFleet({ url: "redis://host:6379", model, store });
 *     await corpus.precompute(["docs/"], { supply: fleet });
 *     await fleet.close();
 *
 * @throws KvspliceError `bad_argument` for what is not a Redis URL, `unreachable`
 */
export async function openFleet(options: FleetOptions): Promise<Fleet> {
  await mustReach(options.url);
  const fleet = new Fleet(options);
  await fleet.ready();
  return fleet;
}

export class Fleet implements BlockSupply {
  readonly atOnce = 64;
  private readonly queue: Queue<EncodeJob, Encoded>;
  private readonly events: QueueEvents;
  private readonly asks = new Map<BlockKey, Ask>();
  private readonly room = pLimit(MOST_ASKED);
  private readonly pulls = pLimit(MOST_PULLED);
  private readonly timer: NodeJS.Timeout;
  private done = { workers: 0, blocks: 0, tokens: 0, redone: 0 };
  private failure: unknown;
  private looking = false;
  private lastWorker_ms = performance.now();
  private readonly heard = new WeakSet<AbortSignal>();
  private readonly closed = new AbortController();
  private readonly noticed = new Set<"no worker" | "away">();

  /** @internal Use `openFleet`. */
  constructor(private readonly options: FleetOptions) {
    const name = queueOf(options.model);
    const connection = connectionTo(options.url);
    this.queue = new Queue(name, {
      connection,
      prefix: PREFIX,
      defaultJobOptions: {
        attempts: ATTEMPTS,
        backoff: { type: "exponential", delay: BACKOFF_MS },
        // Blocks are the result, and whoever waits hears of the end: a job that stayed would only hinder its repetition.
        removeOnComplete: true,
        removeOnFail: true,
      },
    });
    this.events = new QueueEvents(name, { connection, prefix: PREFIX });
    this.queue.on("error", this.onAway);
    this.events.on("error", this.onAway);
    this.events.on("completed", ({ jobId, returnvalue }) => this.onCompleted(jobId, returnvalue as unknown as Encoded));
    this.events.on("failed", ({ jobId, failedReason }) => this.onFailed(jobId, failedReason));
    this.events.on("stalled", () => this.done.redone++);
    this.events.on("removed", ({ jobId }) => void this.putAgain(jobId));
    this.timer = setInterval(() => void this.look(), LOOK_EVERY_MS);
  }

  get activity(): FleetActivity {
    return { ...this.done };
  }

  /** @internal Events are heard from here on. */
  async ready(): Promise<void> {
    await Promise.all([this.queue.waitUntilReady(), this.events.waitUntilReady()]);
    await this.look();
  }

  /**
   * @throws KvspliceError `job_failed` where the workers cannot make the block, `bad_store` where the shared tier does
   *   not keep what they put, `cancelled`
   */
  async supply(key: BlockKey, source: BlockSource, { signal }: SupplyOptions = {}): Promise<boolean> {
    return this.room(async () => {
      if ((await this.options.store.has(key)) && (await this.pull(key))) return false;
      for (let losses = 0; losses < MOST_LOSSES; losses++) {
        await this.ask(key, source, signal);
        if (await this.pull(key)) return true;
        await setTimeout(losses * LOSS_WAIT_MS, undefined, { signal: this.closed.signal }).catch(() => undefined);
      }
      throw new KvspliceError(
        "bad_store",
        `A worker put block ${key.slice(0, 12)}, and it is not in the shared tier of this store; give both the same one, with room for more blocks.`,
      );
    });
  }

  /** Takes back what no worker has begun. What is begun is finished into the shared tier, where the next run finds it. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.closed.abort();
    this.fail(new KvspliceError("cancelled", "The fleet was closed."));
    const leave = async () => {
      await Promise.all([...this.asks.keys()].map((key) => this.queue.remove(key).catch(() => 0)));
      await Promise.all([this.queue.close(), this.events.close()]);
    };
    const atMost = (left: Promise<unknown>) => Promise.race([left, setTimeout(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    await atMost(leave());
    // A connection that came and went while it closed may never say that it has ended.
    await atMost(Promise.allSettled([this.queue.disconnect(), this.events.disconnect()]));
  }

  private async pull(key: BlockKey): Promise<boolean> {
    return this.pulls(async () => (await this.options.store.get(key)) !== undefined);
  }

  private async ask(key: BlockKey, source: BlockSource, signal: AbortSignal | undefined): Promise<Encoded> {
    if (signal !== undefined) this.hear(signal);
    if (this.failure !== undefined) throw this.failure;
    return (this.asks.get(key) ?? (await this.put(key, source))).result;
  }

  /** One listener a signal, however many blocks are asked for with it. */
  private hear(signal: AbortSignal): void {
    if (this.heard.has(signal)) return;
    this.heard.add(signal);
    const onAbort = () => this.fail(new KvspliceError("cancelled", "Cancelled. What was encoded is kept; run again to go on.", { cause: signal.reason }));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true, signal: this.closed.signal });
  }

  private async put(key: BlockKey, { tokens, offsets, after, adapted }: BlockSource): Promise<Ask> {
    const job: EncodeJob = { model: kindOf(this.options.model), key, tokens: [...tokens], ...(offsets && { offsets: [...offsets] }), ...(after && { after: [...after] }), ...(adapted && { adapted }) };
    let settle!: Pick<Ask, "resolve" | "reject">;
    const result = new Promise<Encoded>((resolve, reject) => (settle = { resolve, reject }));
    result.catch(() => undefined); // told to whoever awaits it
    const ask: Ask = { job, result, ...settle, asked_ms: performance.now() };
    this.asks.set(key, ask);
    await Promise.race([this.queue.add("encode", job, { jobId: key }), result]);
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
    this.fail(new KvspliceError("job_failed", `The workers cannot make block ${key.slice(0, 12)}: ${reason} What was encoded is kept; mend that and run again.`));
  }

  /** One block that cannot be had ends the run: the corpus would not be whole. */
  private fail(error: unknown): void {
    this.failure ??= error;
    for (const ask of this.asks.values()) ask.reject(this.failure);
  }

  private readonly onAway = (error: Error): void => {
    this.notice("away", `The queue at ${withoutPassword(this.options.url)} does not answer (${error.message}); waiting for it. Ctrl-C ends; what is encoded is kept.`);
  };

  private notice(what: "no worker" | "away", sentence: string): void {
    if (this.noticed.has(what)) return;
    this.noticed.add(what);
    this.options.onNotice?.(sentence);
  }

  /** Counts the workers, and sees to what has been waited for too long. */
  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      const now = performance.now();
      this.done.workers = await this.queue.getWorkersCount();
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
      `No worker of ${kindOf(model)} is at ${withoutPassword(url)}` +
        (others.length === 0 ? "" : `; the ${others.length} there have another model, or keep blocks in another precision`) +
        `. Start some: kvsplice worker --queue ${withoutPassword(url)}`,
    );
  }

  /**
   * An event may be missed (its stream is bounded), and a Redis that was started anew without its data has lost the
   * queue: what is no longer in it is asked for again. Where the block was made, the worker that takes the job says so.
   */
  private async askAgain(now: number): Promise<void> {
    for (const [key, ask] of [...this.asks]) {
      if (now - ask.asked_ms < OVERDUE_MS) continue;
      ask.asked_ms = now;
      if ((await this.queue.getJobState(key)) === "unknown") await this.putAgain(key);
    }
  }

  /** Another precompute that was ended may take back a job that this one waits for, too. */
  private async putAgain(key: BlockKey): Promise<void> {
    const ask = this.asks.get(key);
    if (ask && !this.closed.signal.aborted) await this.queue.add("encode", ask.job, { jobId: key }).catch(this.onAway);
  }
}
