/** What decides a block's worth compared with others. */
export type Weighed = { readonly uses: number; readonly cost_ms: number; readonly bytes: number };

/**
 * Greedy-Dual-Size-Frequency (Cherkasova, HPL-98-69, 1998; after Cao and Irani 1997): the block of least worth goes first. A
 * block's worth is the clock when it was last used plus its uses (the put counts as one) times the cost per byte of encoding
 * it again; the clock is the worth of the block evicted last. So among blocks of equal cost the least recently used goes
 * first, and one that is expensive for its size, or used often, stays longer.
 *
 * @param clock in ms of encoding per KB, like the result
 */
export function worthOf(clock: number, { uses, cost_ms, bytes }: Weighed): number {
  return clock + ((1 + uses) * cost_ms) / (bytes / 1024);
}

/** Encoding cost of a block that was put without one: typical of a small model on a CPU. */
export const DEFAULT_COST_MS_PER_TOKEN = 1;
