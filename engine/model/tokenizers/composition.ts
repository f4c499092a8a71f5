/** A text composed by Unicode's NFC, which knows where its characters come from. */
export class Composition {
  readonly text: string;
  /** Where text was changed: ends in the composed text, ends in the source, in order. */
  private readonly changes: { readonly start: number; readonly end: number; readonly sourceStart: number; readonly sourceEnd: number }[] = [];
  private at = 0;

  constructor(source: string) {
    this.text = source.normalize("NFC");
    if (this.text === source) return;
    let [composed, start] = [0, 0];
    // An ASCII character composes with nothing before it: what lies between two of them is composed by itself.
    for (const [piece] of source.matchAll(/[^][^\0-\x7f]*/g)) {
      const length = piece.normalize("NFC").length;
      if (length !== piece.length) {
        this.changes.push({ start: composed, end: composed + length, sourceStart: start, sourceEnd: start + piece.length });
      }
      composed += length;
      start += piece.length;
    }
  }

  /**
   * How much of the source is covered by the first `end` units of the composed text; of a piece that was changed nothing
   * before its end. To be asked in rising order.
   */
  sourceEnd(end: number): number {
    while (this.at + 1 < this.changes.length && this.changes[this.at + 1]!.start < end) this.at++;
    const change = this.changes[this.at];
    if (change === undefined || end <= change.start) return end;
    return end < change.end ? change.sourceStart : end - change.end + change.sourceEnd;
  }
}
