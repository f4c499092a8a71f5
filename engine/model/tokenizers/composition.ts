/** A text composed with Unicode's NFC, a part at a time, which records where its characters come from. */
export class Composition {
  private readonly parts: string[] = [];
  /** Where text was changed: ends in the composed text and in the source, in order. */
  private readonly changes: { readonly start: number; readonly end: number; readonly sourceStart: number; readonly sourceEnd: number }[] =
    [];
  private isChanged = false;
  private composed = 0;
  private taken = 0;
  private at = 0;

  constructor(private readonly source: string) {}

  /** The composed text, or as much of it as there is. */
  get text(): string {
    return this.isChanged ? this.parts.join("") : this.source.slice(0, this.taken);
  }

  /**
   * Composes about this many more characters of the source.
   * @returns whether any are left
   */
  advance(characters: number): boolean {
    const { source, taken } = this;
    if (taken < source.length) {
      // An ASCII character composes with nothing before it, so the text between two of them is composed separately.
      ASCII.lastIndex = taken + characters;
      this.compose(source.slice(taken, ASCII.exec(source)?.index ?? source.length));
    }
    return this.taken < source.length;
  }

  private compose(part: string): void {
    const text = part.normalize("NFC");
    this.parts.push(text);
    if (text === part) {
      this.composed += part.length;
      this.taken += part.length;
      return;
    }
    this.isChanged = true;
    for (const [piece] of part.matchAll(/[^][^\0-\x7f]*/g)) {
      const length = piece.normalize("NFC").length;
      const [start, sourceStart] = [this.composed, this.taken];
      this.composed += length;
      this.taken += piece.length;
      if (length !== piece.length) this.changes.push({ start, end: this.composed, sourceStart, sourceEnd: this.taken });
    }
  }

  /**
   * How much of the source the first `end` units of the composed text cover; a piece that was changed counts only
   * at its end. Must be called in ascending order.
   */
  sourceEnd(end: number): number {
    while (this.at + 1 < this.changes.length && this.changes[this.at + 1]!.start < end) this.at++;
    const change = this.changes[this.at];
    if (change === undefined || end <= change.start) return end;
    return end < change.end ? change.sourceStart : end - change.end + change.sourceEnd;
  }
}

const ASCII = /[\0-\x7f]/g;
