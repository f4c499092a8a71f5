import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

const SAMPLES = 2_000;

export type Difference = { readonly mean: number; readonly low: number; readonly high: number };

/** The mean difference of paired results, in points, and the middle 95 % of samples drawn with replacement. */
export function pairedBootstrap(ours: readonly number[], theirs: readonly number[]): Difference {
  const differences = ours.map((value, index) => 100 * (value - theirs[index]!));
  const { length } = differences;
  const random = xoroshiro128plus(1);
  const means = Array.from({ length: SAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < length; i++) sum += differences[uniformInt(random, 0, length - 1)]!;
    return sum / length;
  }).sort((a, b) => a - b);
  return {
    mean: differences.reduce((sum, each) => sum + each, 0) / length,
    low: means[Math.floor(0.025 * SAMPLES)]!,
    high: means[Math.floor(0.975 * SAMPLES)]!,
  };
}
