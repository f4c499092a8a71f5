import { totalmem } from "node:os";
import { availableMemory } from "node:process";
import type { Shared } from "./service.js";

/** A server's load, for load balancers. */
export type Load = {
  /** `drain`: it finishes running requests and accepts no new ones. */
  readonly status: "up" | "drain";
  /** The load it can take now, in percent of its usual load, at least 1. */
  readonly weight: number;
  /** Answers waiting for their first token, and how many may wait. */
  readonly waiting: number;
  readonly queue: number;
  /** Answers that the engine is computing together, and those waiting to join them. */
  readonly running: number;
  readonly queued: number;
  /** Bytes of free memory for KV. */
  readonly free_bytes: number;
};

/** Below this share of the machine's memory, memory for KV is short. */
const AMPLE_SHARE = 0.1;

/** @param memory free and total bytes; by default those of the machine or its container */
export function loadOf(
  { catalogue, waiting, draining, limits }: Shared,
  memory = { free: availableMemory(), all: process.constrainedMemory() || totalmem() },
): Load {
  const models = [...new Set(catalogue.open.map(({ model }) => model))];
  const sum = (of: (activity: { readonly running: number; readonly queued: number }) => number) =>
    models.reduce((total, { activity }) => total + of(activity), 0);
  const room = Math.min(1, memory.free / (AMPLE_SHARE * Math.min(memory.all, totalmem())));
  return {
    status: draining() || models.some(({ failure }) => failure) ? "drain" : "up",
    weight: Math.max(1, Math.round(100 * (1 - waiting.size / limits.queue) * room)),
    waiting: waiting.size,
    queue: limits.queue,
    running: sum(({ running }) => running),
    queued: sum(({ queued }) => queued),
    free_bytes: memory.free,
  };
}

/** A load in the format of HAProxy's agent-check (configuration manual, 5.2): one line, read from a TCP connection. */
export function agentLine({ status, weight }: Load): string {
  return status === "drain" ? "drain\n" : `ready up ${weight}%\n`;
}
