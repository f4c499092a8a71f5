/** A paragraph's text while it is read, in pieces that are joined once, so that reading takes linear time. */
export class InlineText {
  private pieces: string[] = [];
  /** Whether a space would come first or follow another space. */
  private spaced = true;

  /** Characters so far. */
  length = 0;

  /** Adds flowing text: adjacent spaces become one. */
  flow(text: string): void {
    const single = text.replace(/\s+/g, " ");
    this.put(this.spaced && single.startsWith(" ") ? single.slice(1) : single);
  }

  /** Adds text as it is. */
  put(text: string): void {
    if (text === "") return;
    this.pieces.push(text);
    this.length += text.length;
    this.spaced = /\s/.test(text.at(-1)!);
  }

  take(): string {
    const text = this.pieces.join("");
    this.pieces = [];
    this.spaced = true;
    this.length = 0;
    return text;
  }
}
