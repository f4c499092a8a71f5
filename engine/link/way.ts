import type { BlockSource, Plan } from "../../plan/index.js";

/** How much attention each token of a plan's loose blocks gets: one weight per token, by block. */
export type Looks = ReadonlyMap<BlockSource, Float32Array>;

/**
 * A way of linking: restores to separately encoded documents what they lose by not having seen each other. It is expressed as
 * a change to the plan.
 */
export type Way = {
  /** Whether it chooses by what the question attends to, which takes a pass of the question over the spliced KV. */
  readonly looks: boolean;
  link(plan: Plan, looks: Looks): Plan;
};
