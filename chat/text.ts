import { createHash } from "node:crypto";
import { type BlockSource, type Plan, PlanWriter } from "../plan/index.js";

/** Tokens whose KV states are kept together: complete runs of this length are found again by prompts with the same beginning. */
const KEPT_TOKENS = 64;

/** A text to be continued as it is, without a chat template. The keys of its KV states depend on all text before them. */
export function textPlan(tokens: readonly number[], keyOf: (source: BlockSource) => string): Plan {
  const writer = new PlanWriter();
  for (let start = 0; start < tokens.length; start += KEPT_TOKENS) {
    const before = tokens.slice(0, start + KEPT_TOKENS);
    const keep = createHash("sha256")
      .update(`text from ${start}\n${keyOf({ tokens: before })}`)
      .digest("hex");
    writer.fresh(before.slice(start), { keep });
  }
  return writer.plan;
}
