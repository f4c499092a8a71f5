import { createHash } from "node:crypto";
import type { BlockSource } from "../plan/index.js";

/** What a block saw is identified in runs of this many tokens: blocks that saw the same up to a run share its KV. */
const RUN_TOKENS = 32;

/** Prefixes of what a block saw: an id for all of their tokens, and where each ends. */
export function seenRuns({ after = [], adapted }: BlockSource): { readonly id: string; readonly end: number }[] {
  const hash = createHash("sha256").update(adapted ? "adapted" : "");
  const runs: { id: string; end: number }[] = [];
  for (let start = 0; start < after.length; start += RUN_TOKENS) {
    const end = Math.min(start + RUN_TOKENS, after.length);
    hash.update(Int32Array.from(after.slice(start, end)));
    runs.push({ id: `seen ${hash.copy().digest("hex")}`, end });
  }
  return runs;
}
