import { hostname } from "node:os";

import { UnrecoverableError, Worker } from "bullmq";

import type { Model, TieredStore } from "../engine/index.js";
import { EncodeJob, type Encoded, kindOf, PREFIX, queueOf } from "./job.js";
import { connectionTo, mustReach, withoutPassword } from "./redis.js";

export type WorkerOptions = {
  /** The queue's Redis. */
  readonly url: string;
  readonly model: Model;
  /** Has the shared tier. */
  readonly store: Pick<TieredStore, "has" | "put" | "flush">;
  /** Jobs at once. One is encoded while the block of another travels; 2 by default. */
  readonly concurrency?: number | undefined;
  /**
   * A worker that has been silent for so long has its jobs given to another; 15 s by default. One pass of the model
   * (256 tokens) must take less than half of it: the worker does not speak meanwhile.
   */
  readonly lock_ms?: number | undefined;
  readonly onBlock?: ((block: Encoded) => void) | undefined;
  /** Told, in a sentence, of a job that failed and of a Redis that is away. */
  readonly onNotice?: ((notice: string) => void) | undefined;
};

export interface FleetWorker {
  /** Takes no other job, and resolves when those begun are finished. */
  close(): Promise<void>;
}

const LOCK_MS = 15_000;

/** Silent workers are looked for this often, as a share of the lock. */
const LOOK_SHARE = 1 / 3;

/** A job that has silenced so many workers is the reason for it, and fails. */
const MOST_SILENCED = 4;

/**
 * Takes jobs from the queue of this model's blocks, encodes them, and puts the blocks into the shared tier.
 *
 * @throws KvspliceError `bad_argument` for what is not a Redis URL, `unreachable`
 */
export async function startWorker(options: WorkerOptions): Promise<FleetWorker> {
  const { url, model, concurrency = 2, lock_ms = LOCK_MS, onNotice } = options;
  await mustReach(url);
  const worker = new Worker<unknown, Encoded>(queueOf(model), ({ data }) => encode(options, data), {
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
    if (!away) onNotice?.(`The queue at ${withoutPassword(url)} has trouble (${error.message}); trying again.`);
    away = true;
  });
  worker.on("active", () => (away = false));
  worker.on("failed", (job, error) => onNotice?.(`Block ${job?.id?.slice(0, 12)} failed: ${error.message}`));
  await worker.waitUntilReady();
  return { close: () => worker.close() };
}

async function encode({ model, store, onBlock }: WorkerOptions, data: unknown): Promise<Encoded> {
  const job = EncodeJob.safeParse(data);
  if (!job.success) throw new UnrecoverableError("The job is not one of this kvsplice; bring precompute and workers to the same version.");
  const { key, tokens, offsets, after, adapted } = job.data;
  const source = { tokens, ...(offsets && { offsets }), ...(after && { after }), ...(adapted && { adapted }) };
  if (model.keyOf(source) !== key) {
    throw new UnrecoverableError(`The job is for blocks of ${job.data.model}, this worker makes others, of ${kindOf(model)}; start workers with the model and precision of the precompute.`);
  }
  const held = await store.has(key);
  if (!held) {
    const start = performance.now();
    const encoded = await model.encode(source);
    await store.put(key, encoded, { model: model.name, cost_ms: performance.now() - start });
    await store.flush();
  }
  const block: Encoded = { tokens: tokens.length, encoded: !held };
  onBlock?.(block);
  return block;
}
