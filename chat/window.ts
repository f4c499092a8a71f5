/** A run of a conversation's tokens whose KV states are kept as a unit; the key identifies them and everything they saw. */
export type Segment = { readonly key: string; readonly tokens: readonly number[] };

/** An exchange as the model saw it: a segment per message, the last of which is the answer with what opens it. */
export type SeenExchange = {
  /** Identifies its texts. */
  readonly said: string;
  readonly segments: readonly Segment[];
};

/** What the model still sees of a conversation after an answer. */
export type Window = {
  /** Oldest first. */
  readonly exchanges: readonly SeenExchange[];
  /** The last tokens of the last answer, which have no KV states: they are computed with the next question. */
  readonly tail: readonly number[];
};

export function lengthOf(exchanges: readonly SeenExchange[]): number {
  return exchanges.reduce((sum, { segments }) => segments.reduce((more, { tokens }) => more + tokens.length, sum), 0);
}

/** The newest exchanges that take at most `room` tokens. */
export function newestWithin(exchanges: readonly SeenExchange[], room: number): readonly SeenExchange[] {
  let start = exchanges.length;
  for (let left = room; start > 0; start--) {
    left -= lengthOf([exchanges[start - 1]!]);
    if (left < 0) break;
  }
  return exchanges.slice(start);
}
