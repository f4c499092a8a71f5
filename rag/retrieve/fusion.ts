import type { Hit } from "./vector-index.js";

/** A chunk's scores by meaning and by words. */
export type Candidate = {
  readonly id: number;
  /** Cosine of the question's vector and the chunk's. */
  readonly cosine: number;
  /** BM25, 0 to 1 (`KeywordHit.score`). */
  readonly words: number;
  /** Share of the question's words that it contains, 0 to 1 (`KeywordHit.coverage`). */
  readonly coverage: number;
};

/** An encoder's cosines of unrelated texts: their mean and standard deviation. */
export type Background = { readonly mean: number; readonly deviation: number };

/** For all-MiniLM-L6-v2 over 13,700 passages, with which the weights were tuned. */
export const REFERENCE: Background = { mean: 0.02, deviation: 0.092 };

const WORDS_WEIGHT = 0.2;
const COVERAGE_WEIGHT = 0.3;

/**
 * How well a chunk fits a question: (cosine + 0.2 BM25 + 0.3 coverage) / 1.5. None of the three depends on what else was
 * found, so that a search's confidence is kept (ranks would lose it), and scores of two questions can be compared. Bruch et
 * al., "An analysis of fusion functions for hybrid retrieval" (TOIS 2023), explain why sums of scores do better than ranks. The
 * weights were chosen on questions of Natural Questions, SQuAD and BoolQ that are not in the evaluation; values near them do as
 * well: `npx tsx bench/finding.ts --tune`.
 *
 * @param background of the encoder: its cosines are scaled to the reference's mean and deviation
 */
export function fuse(candidates: readonly Candidate[], background: Background = REFERENCE): Hit[] {
  const scale = REFERENCE.deviation / background.deviation;
  const cosineOf = (cosine: number) => REFERENCE.mean + (cosine - background.mean) * scale;
  const scored = candidates.map(({ id, cosine, words, coverage }) => ({
    id,
    score: (cosineOf(cosine) + WORDS_WEIGHT * words + COVERAGE_WEIGHT * coverage) / (1 + WORDS_WEIGHT + COVERAGE_WEIGHT),
  }));
  return scored.sort((a, b) => b.score - a.score || a.id - b.id);
}
