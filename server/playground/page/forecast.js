/** @import { RunStats } from "../events.js" */

/**
 * Predicts the time to the first token if a share of the documents' tokens were recomputed, based on another answer: each
 * computed token takes the same time, and finding out what the question attends to takes one pass over it.
 *
 * @param {number} share from 0 to 1
 * @param {RunStats} stats
 * @param {number} documents number of their tokens
 * @returns {number} in ms
 */
export function forecast(share, { queue_ms, fetch_ms, splice_ms, look_ms, first_token_ms, computed_tokens, recomputed_tokens }, documents) {
  const token_ms = Math.max(0, first_token_ms - queue_ms - fetch_ms - splice_ms - look_ms) / Math.max(1, computed_tokens);
  const question = computed_tokens - recomputed_tokens;
  const look = share === 0 ? 0 : look_ms || token_ms * question;
  return fetch_ms + splice_ms + look + token_ms * (question + share * documents);
}
