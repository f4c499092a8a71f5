/** Where a sequence of random numbers is. */
export type Random = { state: number };

/**
 * Numbers of about the normal distribution with variance 1, by whole numbers and one product alone (mulberry32, sums of
 * four): the same bits on every machine.
 */
export function numbersOf(random: Random, count: number): Float32Array {
  return Float32Array.from({ length: count }, () => (uniform(random) + uniform(random) + uniform(random) + uniform(random) - 2) * 1.7320508);
}

function uniform(random: Random): number {
  random.state = (random.state + 0x6d2b79f5) | 0;
  let t = Math.imul(random.state ^ (random.state >>> 15), 1 | random.state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
