import { createHash } from "node:crypto";

import { z } from "zod";

import type { Model } from "../engine/index.js";

/** One block to encode. Its id on the queue is the block's key, so that equal blocks are one job. */
export const EncodeJob = z.object({
  /** Who asks: for people, and for the error of a worker whose model is another. */
  model: z.string(),
  key: z.string(),
  tokens: z.array(z.int()),
  offsets: z.array(z.int()).optional(),
  after: z.array(z.int()).optional(),
  adapted: z.literal(true).optional(),
});
export type EncodeJob = z.infer<typeof EncodeJob>;

/** What a worker says of a finished job: the shared tier holds the block. */
export type Encoded = {
  readonly tokens: number;
  /** Whether it was encoded for this job; else the shared tier held it before. */
  readonly encoded: boolean;
};

/** Begins the name of every key that the queue has in Redis. */
export const PREFIX = "kvsplice-queue";

/**
 * The queue of one kind of block. The key of a block without tokens is a hash of all else that a block's KV depends on
 * (weights, graph, layout, precision), so a worker whose blocks would be others looks at another queue.
 */
export function queueOf(model: Pick<Model, "keyOf">): string {
  return createHash("sha256").update(model.keyOf({ tokens: [], adapted: true })).digest("hex").slice(0, 32);
}

/** A kind of blocks as messages name it. */
export function kindOf({ name, id, precision }: Pick<Model, "name" | "id" | "precision">): string {
  return `${name} (${id.slice(0, 12)}) in ${precision}`;
}
