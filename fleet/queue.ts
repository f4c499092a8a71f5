import { setTimeout as sleep } from "node:timers/promises";
import type { DefaultJobOptions, Queue, QueueEvents } from "bullmq";
import type { BlockKey, Model } from "../engine/index.js";
import type { Bullmq } from "./bullmq.js";
import { type Encoded, type EncodeJob, PREFIX, queueOf } from "./job.js";
import { connectionTo } from "./redis.js";

const LOOK_EVERY_MS = 1000;

/** Maximum wait for an unreachable Redis when closing. */
const CLOSE_WITHIN_MS = 3000;

export type JobQueueOptions = {
  /** The queue's Redis. */
  readonly url: string;
  readonly model: Pick<Model, "keyOf">;
  /** BullMQ's options for each job, such as retries. */
  readonly jobs?: DefaultJobOptions;
  /** Called when the queue is ready, and then every second. */
  readonly look: () => Promise<void>;
  /** Called when the queue's Redis does not answer. */
  readonly onAway: (error: Error) => void;
};

/** The queue for one kind of block, with the events of its jobs, for clients that add jobs. */
export class JobQueue {
  readonly queue: Queue<EncodeJob, Encoded>;
  readonly events: QueueEvents;
  private readonly timer: NodeJS.Timeout;

  constructor(
    private readonly options: JobQueueOptions,
    { Queue, QueueEvents }: Bullmq,
  ) {
    const name = queueOf(options.model);
    const connection = connectionTo(options.url);
    // The block is the result, and an event reports the end. A job that stayed would only prevent repeating it.
    const defaultJobOptions = { ...options.jobs, removeOnComplete: true, removeOnFail: true };
    this.queue = new Queue(name, { connection, prefix: PREFIX, defaultJobOptions });
    this.events = new QueueEvents(name, { connection, prefix: PREFIX });
    this.queue.on("error", options.onAway);
    this.events.on("error", options.onAway);
    this.timer = setInterval(() => void options.look(), LOOK_EVERY_MS).unref();
  }

  /** Resolves when events are received. */
  async ready(): Promise<void> {
    await Promise.all([this.queue.waitUntilReady(), this.events.waitUntilReady()]);
    await this.options.look();
  }

  /** Withdraws those of these jobs that no worker has begun. */
  async close(keys: readonly BlockKey[]): Promise<void> {
    clearInterval(this.timer);
    const leave = async () => {
      await Promise.all(keys.map((key) => this.queue.remove(key).catch(() => 0)));
      await Promise.all([this.queue.close(), this.events.close()]);
    };
    const atMost = (left: Promise<unknown>) => Promise.race([left, sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    await atMost(leave().catch(() => undefined));
    // A connection that was lost while closing may never report its end.
    await atMost(Promise.allSettled([this.queue.disconnect(), this.events.disconnect()]));
  }
}
