import type { Hit } from "./vector-index.js";

/** Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet", SIGIR 2009: k = 60. */
const RANK_OFFSET = 60;

/**
 * One ranking of several by their ranks alone, since cosines and BM25 scores have no common scale: a chunk's score is
 * the sum of 1 / (60 + rank) over the rankings that hold it, rank from 1.
 */
export function fuseByRank(rankings: readonly (readonly Hit[])[]): Hit[] {
  const scores = new Map<number, number>();
  for (const ranking of rankings) {
    ranking.forEach(({ id }, index) => scores.set(id, (scores.get(id) ?? 0) + 1 / (RANK_OFFSET + index + 1)));
  }
  return [...scores].map(([id, score]) => ({ id, score })).sort((a, b) => b.score - a.score || a.id - b.id);
}
