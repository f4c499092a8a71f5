const RESAMPLES = 2000;

/**
 * The mean difference between two ways, question by question, and the interval that contains 95 % of the means of
 * resampled questions (Efron 1979). The draws are the same in every run.
 */
export function pairedDifference(differences: readonly number[]): {
  readonly difference: number;
  readonly interval: readonly [low: number, high: number];
} {
  const draw = draws(differences.length);
  const mean = (value: (i: number) => number) => differences.reduce((sum, _, i) => sum + value(i), 0) / differences.length;
  const means = Array.from({ length: RESAMPLES }, () => mean(() => differences[draw()]!)).sort((a, b) => a - b);
  const at = (share: number) => means[Math.round(share * (RESAMPLES - 1))]!;
  return { difference: mean((i) => differences[i]!), interval: [at(0.025), at(0.975)] };
}

/** Random indices below `count` (mulberry32). */
function draws(count: number): () => number {
  let state = 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * count);
  };
}
