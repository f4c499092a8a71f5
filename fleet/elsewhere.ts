import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { BlockKey, BlockSource, BlockStore, Elsewhere, Model } from "../engine/index.js";
import { type Bullmq, importBullmq } from "./bullmq.js";
import { Expectation } from "./expectation.js";
import { type Encoded, jobOf } from "./job.js";
import { JobQueue } from "./queue.js";
import { mustReach, withoutPassword } from "./redis.js";
import { activeTrace } from "./trace.js";

export type ElsewhereOptions = {
  /** The queue's Redis. */
  readonly url: string;
  readonly model: Pick<Model, "id" | "name" | "precision" | "keyOf" | "adapters">;
  /** The store with the shared tier that workers put blocks into. */
  readonly store: Pick<BlockStore, "has">;
  /** Called with a sentence when the queue cannot be reached. */
  readonly onNotice?: ((notice: string) => void) | undefined;
  /** @internal The initial estimates. */
  readonly expected?: Expectation | undefined;
};

/** After this many times the expected time, waiting ends and the block is encoded here. */
const PATIENCE = 3;
const LEAST_PATIENCE_MS = 500;
/** After a wait that timed out, workers are not used for this long, so that the next answer does not wait for them too. */
const REST_MS = 10_000;

type Ask = { readonly tokens: number; readonly ended: Promise<Encoded | undefined>; end(encoded: Encoded | undefined): void };

/**
 * Lets the workers of a queue encode blocks that a question waits for, if they are expected to be faster than this machine,
 * and ahead of the jobs of any precompute. The estimate uses the measured speeds of both, the work in progress on both sides,
 * and the time to fetch a block. This separates prefill from decode, as in Mooncake (Qin et al., FAST 2025).
 *
 *     const elsewhere = await openElsewhere({ url: "redis://host:6379", model, store });
 *     const answer = model.generate(plan, { store, elsewhere });
 *
 * @throws KvspliceError `bad_argument` for an invalid Redis URL or if bullmq is not installed, `unreachable`
 */
export async function openElsewhere(options: ElsewhereOptions): Promise<QuestionQueue> {
  const bullmq = await importBullmq();
  await mustReach(options.url);
  const queue = new QuestionQueue(options, options.expected ?? new Expectation(), bullmq);
  await queue.ready();
  return queue;
}

export class QuestionQueue implements Elsewhere {
  private readonly jobs: JobQueue;
  private readonly asks = new Map<BlockKey, Ask>();
  private waitingJobs = 0;
  private away = false;
  private restUntil = 0;
  private busy = { since: 0, tokens: 0 };

  /** @internal Use `openElsewhere`. */
  constructor(
    private readonly options: ElsewhereOptions,
    private readonly expected: Expectation,
    bullmq: Bullmq,
  ) {
    this.jobs = new JobQueue({ ...options, look: () => this.look(), onAway: this.onAway }, bullmq);
    const { events } = this.jobs;
    events.on("completed", ({ jobId, returnvalue }) => this.asks.get(jobId)?.end(returnvalue as unknown as Encoded));
    events.on("failed", ({ jobId }) => this.asks.get(jobId)?.end(undefined));
  }

  /** @internal Resolves when events are received. */
  ready(): Promise<void> {
    return this.jobs.ready();
  }

  get activity(): { readonly workers: number; readonly jobs: number } {
    return { workers: this.expected.workers, jobs: this.waitingJobs };
  }

  isSooner(tokens: number): boolean {
    const { expected } = this;
    if (expected.workers === 0 || this.away || performance.now() < this.restUntil) return false;
    return expected.there_ms(tokens) < expected.here_ms(tokens);
  }

  async encode(key: BlockKey, source: BlockSource, signal?: AbortSignal): Promise<boolean> {
    const tokens = source.tokens.length;
    const { expected } = this;
    const encoding_ms = expected.encodingThere_ms(tokens);
    const isMeasured = expected.isMeasured.there;
    const patience_ms = Math.max(LEAST_PATIENCE_MS, PATIENCE * expected.there_ms(tokens));
    const start = performance.now();
    const ask = this.asks.get(key) ?? this.ask(key, source);
    if (signal) setMaxListeners(0, signal); // one listener for each block that an answer waits for
    const late = new AbortController();
    const onAbort = () => late.abort();
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      const encoded = await Promise.race([
        ask.ended,
        sleep(patience_ms, undefined, { signal: late.signal, ref: false }).catch(() => undefined),
      ]);
      if (!encoded) {
        if (!signal?.aborted) this.restUntil = performance.now() + REST_MS;
        await this.takeBack(key);
        return false;
      }
      if (encoded.encoded && encoded.took_ms !== undefined) {
        if (isMeasured) expected.measureTransfer(performance.now() - start - encoding_ms);
        expected.measure("there", encoded.tokens, encoded.took_ms);
      }
      return await this.options.store.has(key);
    } finally {
      late.abort();
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** This machine's speed is measured from one idle moment to the next, because concurrent blocks share it. */
  beginHere(tokens: number): () => void {
    const { inHand } = this.expected;
    if (inHand.here === 0) this.busy = { since: performance.now(), tokens: 0 };
    inHand.here += tokens;
    return () => {
      inHand.here -= tokens;
      this.busy.tokens += tokens;
      if (inHand.here === 0) this.expected.measure("here", this.busy.tokens, performance.now() - this.busy.since);
    };
  }

  /** Withdraws the jobs that no worker has begun. */
  async close(): Promise<void> {
    const keys = [...this.asks.keys()];
    for (const ask of this.asks.values()) ask.end(undefined);
    await this.jobs.close(keys);
  }

  private ask(key: BlockKey, source: BlockSource): Ask {
    const tokens = source.tokens.length;
    let end!: Ask["end"];
    const ended = new Promise<Encoded | undefined>((resolve) => {
      end = (encoded) => {
        if (this.asks.delete(key)) this.expected.inHand.there -= tokens;
        resolve(encoded);
      };
    });
    const ask: Ask = { tokens, ended, end };
    this.asks.set(key, ask);
    this.expected.inHand.there += tokens;
    this.put(key, source).catch((error: unknown) => {
      this.onAway(error as Error);
      end(undefined);
    });
    return ask;
  }

  /** Puts the job ahead of precompute jobs. If a precompute has already requested the block, its job is moved ahead. */
  private async put(key: BlockKey, source: BlockSource): Promise<void> {
    const trace = activeTrace();
    await this.jobs.queue.add("encode", { ...jobOf(this.options.model, key, source), ...(trace && { trace }) }, { jobId: key });
    if ((await this.jobs.queue.getJobState(key)) === "prioritized")
      await (await this.jobs.queue.getJob(key))?.changePriority({ priority: 0 });
  }

  private async takeBack(key: BlockKey): Promise<void> {
    this.asks.get(key)?.end(undefined);
    // A block that a worker has begun still goes to the shared tier.
    await Promise.race([this.jobs.queue.remove(key).catch(() => 0), sleep(LEAST_PATIENCE_MS, undefined, { ref: false })]);
  }

  private readonly onAway = (error: Error): void => {
    if (!this.away)
      this.options.onNotice?.(
        `The queue at ${withoutPassword(this.options.url)} does not answer (${error.message}); documents are encoded here.`,
      );
    this.away = true;
  };

  private async look(): Promise<void> {
    try {
      const [workers, waiting, later] = await Promise.all([
        this.jobs.queue.getWorkersCount(),
        this.jobs.queue.getJobCountByTypes("wait"),
        this.jobs.queue.getJobCountByTypes("prioritized"),
      ]);
      this.expected.workers = workers;
      this.waitingJobs = waiting + later;
      this.expected.waiting = Math.max(0, waiting - this.asks.size);
      this.away = false;
    } catch (error) {
      this.onAway(error as Error);
    }
  }
}
