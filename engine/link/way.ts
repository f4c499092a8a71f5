import type { BlockSource, Plan } from "../../plan/index.js";

/** How much each token of a plan's loose blocks is looked at: by block, a weight a token. */
export type Looks = ReadonlyMap<BlockSource, Float32Array>;

/**
 * A way of linking: gives documents that were encoded apart back what they lose by not having seen each other, as a
 * change of the plan.
 */
export type Way = {
  /** Whether it chooses by what the question looks at, which takes a pass of the question over the spliced KV. */
  readonly looks: boolean;
  link(plan: Plan, looks: Looks): Plan;
};
