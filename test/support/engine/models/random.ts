/** The state of a sequence of random numbers. */
export type Random = { state: number };

/**
 * Approximately normally distributed numbers with variance 1, from integers and a single product (mulberry32, sums of
 * four), so that the bits are the same on every machine.
 */
export function numbersOf(random: Random, count: number): Float32Array {
  return Float32Array.from(
    { length: count },
    () => (uniform(random) + uniform(random) + uniform(random) + uniform(random) - 2) * 1.7320508,
  );
}

function uniform(random: Random): number {
  random.state = (random.state + 0x6d2b79f5) | 0;
  let t = Math.imul(random.state ^ (random.state >>> 15), 1 | random.state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
