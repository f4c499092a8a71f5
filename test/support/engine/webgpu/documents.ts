import type { Plan } from "../../../../engine/index.js";
import { PROMPT } from "../models/tiny-models.js";

/** Documents for tests with a device, which overlap in part. */
export const DOCUMENTS: readonly (readonly number[])[] = [PROMPT.slice(0, 20), PROMPT.slice(20, 37), PROMPT.slice(5, 30)];

/** A question over them, with gaps between their positions. */
export const OVER_DOCUMENTS: Plan = {
  pieces: [...DOCUMENTS.map((tokens, i) => ({ block: { tokens }, at: 40 * i })), { tokens: PROMPT.slice(0, 6), at: 120 }],
};
