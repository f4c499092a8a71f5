/** How well logits agree with those of a reference. */
export type Agreement = {
  readonly correlation: number;
  /** Root mean square of the difference relative to that of the reference: unlike correlation, it reveals a wrong scale. */
  readonly difference: number;
  /** How many of the reference's ten highest are also among the ten highest here. */
  readonly topTen: number;
};

export function agreement(own: ArrayLike<number>, reference: ArrayLike<number>): Agreement {
  const n = reference.length;
  const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / n;
  const [meanOwn, meanReference] = [mean(own), mean(reference)];
  let [both, squaresOwn, squaresReference, differences, size] = [0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [a, b] = [own[i]! - meanOwn, reference[i]! - meanReference];
    both += a * b;
    squaresOwn += a * a;
    squaresReference += b * b;
    differences += (own[i]! - reference[i]!) ** 2;
    size += reference[i]! ** 2;
  }
  const [topOwn, topReference] = [topTen(own), topTen(reference)];
  return {
    correlation: both / Math.sqrt(squaresOwn * squaresReference),
    difference: Math.sqrt(differences / size),
    topTen: topOwn.filter((token) => topReference.includes(token)).length,
  };
}

function topTen(logits: ArrayLike<number>): number[] {
  return Array.from(logits, (value, token) => ({ value, token }))
    .sort((a, b) => b.value - a.value)
    .slice(0, 10)
    .map(({ token }) => token);
}
