import { createHash } from "node:crypto";

import { z } from "zod";

import type { BlockKey, BlockSource, Model } from "../engine/index.js";
import { TraceContext } from "./trace.js";

/** A block to encode. Its id in the queue is the block's key, so equal blocks are one job. */
export const EncodeJob = z.object({
  /** The requesting model, for display, and for the error of a worker with a different model. */
  model: z.string(),
  key: z.string(),
  tokens: z.array(z.int()),
  offsets: z.array(z.int()).optional(),
  after: z.array(z.int()).optional(),
  adapted: z.literal(true).optional(),
  /** The low-rank adapters that the requesting model was loaded with; none if omitted. */
  adapters: z.array(z.object({ name: z.string(), id: z.string() })).optional(),
  /** The span of the first question that requested the block, if traces are recorded. */
  trace: TraceContext.optional(),
});
export type EncodeJob = z.infer<typeof EncodeJob>;

/** A worker's result for a finished job: the block is in the shared tier. */
export type Encoded = {
  readonly tokens: number;
  /** Whether it was encoded for this job; otherwise it was already in the shared tier. */
  readonly encoded: boolean;
  /** Time to encode it, if it was encoded for this job. */
  readonly took_ms?: number;
};

/** Priority of a precompute's jobs. Jobs of questions have none and go first. */
export const LATER = 10;

export function jobOf(
  model: Pick<Model, "name" | "id" | "precision" | "adapters">,
  key: BlockKey,
  { tokens, offsets, after, adapted }: BlockSource,
): EncodeJob {
  const used = model.adapters.map(({ name, id }) => ({ name, id }));
  const saw = {
    ...(offsets && { offsets: [...offsets] }),
    ...(after && { after: [...after] }),
    ...(adapted && { adapted }),
    ...(used.length > 0 && { adapters: used }),
  };
  return { model: kindOf(model), key, tokens: [...tokens], ...saw };
}

/** Prefix of all keys of the queue in Redis. */
export const PREFIX = "kvsplice-queue";

/**
 * The queue for one kind of block. The key of a block without tokens is a hash of everything else that a block's KV depends
 * on (weights, graph, layout, precision), so workers that would encode different blocks use a different queue.
 */
export function queueOf(model: Pick<Model, "keyOf">): string {
  return createHash("sha256")
    .update(model.keyOf({ tokens: [], adapted: true }))
    .digest("hex")
    .slice(0, 32);
}

/** Adapters as command-line options: ` --adapter NAME` for each. */
export function adapterOptions(adapters: readonly { readonly name: string }[]): string {
  return adapters.map(({ name }) => ` --adapter ${name}`).join("");
}

/** The name of a kind of block in messages. */
export function kindOf({ name, id, precision }: Pick<Model, "name" | "id" | "precision">): string {
  return `${name} (${id.slice(0, 12)}) in ${precision}`;
}
