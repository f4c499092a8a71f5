import type { Plan } from "../../plan/index.js";

/**
 * How much each token of a plan's loose blocks is looked at, piece by piece: `[i]` belongs to the plan's piece i and has
 * a weight a token of its block; undefined for pieces that are not loose.
 */
export type Looks = readonly (Float32Array | undefined)[];

/**
 * A way of linking: gives documents that were encoded apart back what they lose by not having seen each other, as a
 * change of the plan.
 */
export type Way = {
  /** Whether it chooses by what the question looks at, which takes a pass of the question over the spliced KV. */
  readonly looks: boolean;
  link(plan: Plan, looks: Looks): Plan;
};
