import { hostname } from "node:os";

import pLimit, { type LimitFunction } from "p-limit";

import type { Model, TieredStore } from "../engine/index.js";
import { type Bullmq, importBullmq } from "./bullmq.js";
import { adapterOptions, type Encoded, EncodeJob, kindOf, PREFIX, queueOf } from "./job.js";
import { connectionTo, mustReach, withoutPassword } from "./redis.js";
import { tracedEncode } from "./trace.js";

/** What a worker encodes, and how many jobs it takes. */
export type WorkerOptions = {
  /** The queue's Redis. */
  readonly url: string;
  readonly model: Model;
  /** The store with the shared tier. */
  readonly store: Pick<TieredStore, "has" | "put" | "flush">;
  /**
   * Concurrent jobs: one block is encoded while others are sent; by default 2, or the model's `encodesAtOnce` if
   * that is more, up to 128.
   */
  readonly concurrency?: number | undefined;
  /**
   * The jobs of a worker that does not respond for this long are given to another; 15 s by default. One pass of the model
   * (256 tokens) must take less than half of this time, because the worker cannot respond meanwhile.
   */
  readonly lock_ms?: number | undefined;
  /** Called after each block. */
  readonly onBlock?: ((block: Encoded) => void) | undefined;
  /** Called with a sentence when a job fails or Redis cannot be reached. */
  readonly onNotice?: ((notice: string) => void) | undefined;
};

/** A running worker: see `startWorker`. */
export interface FleetWorker {
  /** Takes no further jobs, and resolves when the current ones are finished. */
  close(): Promise<void>;
}

const LOCK_MS = 15_000;

/** A question's job waits for all that the worker took before it, even on a device that would take more. */
const MOST_JOBS = 128;

/** How often to look for unresponsive workers, as a share of the lock time. */
const LOOK_SHARE = 1 / 3;

/** A job that has stalled this many workers is considered the cause, and fails. */
const MOST_SILENCED = 4;

/**
 * Takes jobs from the queue for this model's blocks, encodes the blocks, and puts them into the shared tier.
 *
 *     const url = "redis://host:6379";
 *     const store = openBlockStore({ redis: { url, prefix: "kvsplice:" } });
 *     const worker = await startWorker({ url, model: await loadModel(), store });
 *
 * @throws KvspliceError `bad_argument` for what is not a Redis URL or if bullmq is not installed, `unreachable`
 */
export async function startWorker(options: WorkerOptions): Promise<FleetWorker> {
  const bullmq = await importBullmq();
  const { url, model, concurrency = Math.min(MOST_JOBS, Math.max(2, model.encodesAtOnce ?? 1)), lock_ms = LOCK_MS, onNotice } = options;
  await mustReach(url);
  // One at a time, because the encoding time of each block is reported; but several on a device that encodes them together.
  const inTurn = pLimit(model.encodesAtOnce ?? 1);
  const worker = new bullmq.Worker<unknown, Encoded>(queueOf(model), ({ data }) => encode(options, inTurn, data, bullmq), {
    connection: connectionTo(url),
    prefix: PREFIX,
    name: `${hostname()}-${process.pid}`,
    concurrency,
    lockDuration: lock_ms,
    stalledInterval: Math.ceil(lock_ms * LOOK_SHARE),
    maxStalledCount: MOST_SILENCED,
  });
  let away = false;
  worker.on("error", (error) => {
    if (!away) onNotice?.(`The queue at ${withoutPassword(url)} has a problem (${error.message}); retrying.`);
    away = true;
  });
  worker.on("active", () => (away = false));
  worker.on("failed", (job, error) => onNotice?.(`Block ${job?.id?.slice(0, 12)} failed: ${error.message}`));
  await worker.waitUntilReady();
  return { close: () => worker.close() };
}

async function encode(
  { model, store, onBlock }: WorkerOptions,
  inTurn: LimitFunction,
  data: unknown,
  { UnrecoverableError }: Bullmq,
): Promise<Encoded> {
  const job = EncodeJob.safeParse(data);
  if (!job.success)
    throw new UnrecoverableError("The job comes from a different version of kvsplice. Use the same version for precompute and workers.");
  const { key, tokens, offsets, after, adapted, adapters = [], trace } = job.data;
  const source = { tokens, ...(offsets && { offsets }), ...(after && { after }), ...(adapted && { adapted }) };
  const missing = adapters.filter(({ id }) => !model.adapters.some((own) => own.id === id));
  if (missing.length > 0) {
    throw new UnrecoverableError(
      `The job is for blocks of ${job.data.model}, but ${kindOf(model)} lacks ${missing.map(({ name }) => name).join(" and ")}. Start workers with${adapterOptions(adapters)}.`,
    );
  }
  if (model.keyOf(source) !== key) {
    throw new UnrecoverableError(
      `The job is for blocks of ${job.data.model}, but this worker encodes blocks of ${kindOf(model)}. Start workers with the model and precision of the precompute.`,
    );
  }
  const held = await store.has(key);
  let took_ms: number | undefined;
  if (!held) {
    const { encoded, cost_ms } = await inTurn(async () => {
      const start = performance.now();
      const encoded = await tracedEncode(trace, tokens.length, () => model.encode(source));
      return { encoded, cost_ms: performance.now() - start };
    });
    took_ms = cost_ms;
    await store.put(key, encoded, { model: model.name, cost_ms });
    await store.flush();
  }
  const block: Encoded = { tokens: tokens.length, encoded: !held, ...(took_ms !== undefined && { took_ms }) };
  onBlock?.(block);
  return block;
}
