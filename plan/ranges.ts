/** Half-open range `[start, end)` of token indices within a block. */
export type Range = readonly [start: number, end: number];

/** The runs of `[0, tokens)` that `omit` does not cover. */
export function keptRuns(tokens: number, omit: readonly Range[]): Range[] {
  const runs: Range[] = [];
  let at = 0;
  for (const [start, end] of [...omit].sort((a, b) => a[0] - b[0])) {
    if (start > at) runs.push([at, start]);
    at = Math.max(at, end);
  }
  if (at < tokens) runs.push([at, tokens]);
  return runs;
}
