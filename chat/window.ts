/** A run of a conversation's tokens whose KV is kept as one; the key stands for them and for all that they saw. */
export type Segment = { readonly key: string; readonly tokens: readonly number[] };

/** What the model still sees of a conversation after an answer. */
export type Window = {
  /** Each exchange's segments, the oldest first: what was asked, and the answer. */
  readonly exchanges: readonly (readonly Segment[])[];
  /** The last tokens of the last answer, which have no KV: they are computed with the next question. */
  readonly tail: readonly number[];
};

export function lengthOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { tokens }) => sum + tokens.length, 0);
}

/** The newest exchanges that take at most `room` tokens. */
export function newestWithin(exchanges: Window["exchanges"], room: number): Window["exchanges"] {
  let start = exchanges.length;
  for (let left = room; start > 0; start--) {
    left -= lengthOf(exchanges[start - 1]!);
    if (left < 0) break;
  }
  return exchanges.slice(start);
}
