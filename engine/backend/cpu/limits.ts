import type { ModelSpec } from "../../model/spec.js";

/** Maximum prompts in one pass of the batch session. */
export const BATCH_SLOTS = 8;

/** Tokens in one pass: longer prompts are cut, because the scores of all pairs exist at once. */
const PASS_TOKENS = 256;

/** Size of the scores of one prompt's tokens in a pass: several copies exist at once, and larger ones make no pass faster. */
const SCORE_BYTES = 12 * 2 ** 20;

/** Minimum for any prompt length: with fewer tokens per pass, reading the weights takes longer than the scores. */
const LEAST_PASS_TOKENS = 32;

/** The best number of tokens for a pass after this many rows. */
export function passTokens({ layers }: ModelSpec, rows: number): number {
  const scoreBytes = Math.max(...layers.map((layer) => layer.attention.heads)) * Float32Array.BYTES_PER_ELEMENT;
  const most = Math.floor(SCORE_BYTES / ((rows + PASS_TOKENS) * scoreBytes));
  return Math.min(PASS_TOKENS, Math.max(LEAST_PASS_TOKENS, most));
}
