/** How well an answer agrees with the gold answers; each score is 0 to 1. */
export type Score = {
  /** Whether it is one of them. */
  readonly exact: number;
  /** Whether it contains one of them. */
  readonly contains: number;
  /** The best harmonic mean of precision and recall of its words. */
  readonly f1: number;
};

/** Python's `string.punctuation`. */
const PUNCTUATION = /[!"#$%&'()*+,\-./:;<=>?@[\\\]^_`{|}~]/g;
const ARTICLES = /(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu;

/** Lower case, without punctuation, articles and extra spaces: `normalize_answer` of SQuAD's evaluation script, v1.1. */
export function normaliseAnswer(text: string): string {
  return text.toLowerCase().replace(PUNCTUATION, "").replace(ARTICLES, " ").split(/\s+/).filter(Boolean).join(" ");
}

/**
 * Exact match and F1 as in SQuAD (Rajpurkar et al. 2016), the best over the gold answers, and whether the answer
 * contains one. A gold answer that is empty after normalisation counts only for an exact match.
 */
export function scoreAnswer(answer: string, gold: readonly string[]): Score {
  const given = normaliseAnswer(answer);
  const wanted = gold.map(normaliseAnswer);
  return {
    exact: Number(wanted.includes(given)),
    contains: Number(wanted.some((each) => each !== "" && given.includes(each))),
    f1: Math.max(0, ...wanted.map((each) => wordF1(given, each))),
  };
}

function wordF1(given: string, wanted: string): number {
  const givenWords = given.split(" ").filter(Boolean);
  const wantedWords = wanted.split(" ").filter(Boolean);
  const left = new Map<string, number>();
  for (const word of wantedWords) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of givenWords) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    common++;
  }
  return common === 0 ? 0 : (2 * common) / (givenWords.length + wantedWords.length);
}
