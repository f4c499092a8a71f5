import type { Hit } from "../retrieve/vector-index.js";

/** A message of a conversation. */
export type Said = { readonly role: string; readonly content: string };

/** A text to search for, and the weight of its results. */
export type Reading = { readonly text: string; readonly weight: number };

/** How much of the earlier conversation is read with a question: the last words show its topic. */
const CONTEXT_CHARACTERS = 400;

/** Weight of the reading with context. More helps follow-ups but hurts questions on new topics: `npx tsx bench/finding.ts --tune`. */
const CONTEXT_WEIGHT = 0.5;

/**
 * How a question is read: by itself, and after the user's last question and its answer, which show who "he" is. Both are
 * searched for and their scores added, so that neither a follow-up nor a question on a new topic is lost.
 */
export function readingsOf(question: string, history: readonly Said[]): readonly Reading[] {
  const last = history.findLastIndex(({ role }) => role === "user");
  const context = history.slice(last < 0 ? history.length : last).filter(({ role }) => role === "user" || role === "assistant");
  const before = context.map(({ content }) => content.trim().slice(0, CONTEXT_CHARACTERS)).filter((text) => text !== "");
  if (before.length === 0) return [{ text: question, weight: 1 }];
  return [
    { text: question, weight: 1 - CONTEXT_WEIGHT },
    { text: [...before, question].join("\n"), weight: CONTEXT_WEIGHT },
  ];
}

/** Merges the lists of several readings, which have the same chunks, into one by weighting their scores. */
export function weigh(readings: readonly Reading[], hits: readonly (readonly Hit[])[]): Hit[] {
  const scores = new Map<number, number>();
  hits.forEach((list, index) => {
    for (const { id, score } of list) scores.set(id, (scores.get(id) ?? 0) + readings[index]!.weight * score);
  });
  return Array.from(scores, ([id, score]) => ({ id, score })).sort((a, b) => b.score - a.score || a.id - b.id);
}
