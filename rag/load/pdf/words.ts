/** Uses a document's other lines to rejoin words that were broken at a line's end. */
export class Words {
  private readonly known = new Set<string>();

  constructor(lines: Iterable<string>) {
    let broken = false;
    for (const line of lines) {
      const found = line.toLowerCase().match(/[\p{L}\p{N}]+(?:-[\p{L}\p{N}]+)*/gu) ?? [];
      const halves = /[-\u00ad\u2010]$/.test(line);
      for (const word of found.slice(broken ? 1 : 0, halves ? -1 : undefined)) this.known.add(word);
      broken = halves;
    }
  }

  /** Joins a line to the text before it: `weath-` and `ering` become one word, `mixed-` and `mode` keep their hyphen. */
  join(before: string, line: string): string {
    if (before.endsWith("\u00ad")) return before.slice(0, -1) + line;
    const head = /[\p{L}\p{N}-]*\p{L}(?=[-\u2010]$)/u.exec(before)?.[0].toLowerCase();
    const tail = /^\p{Ll}[\p{L}\p{N}]*/u.exec(line)?.[0];
    if (head === undefined || tail === undefined) return `${before} ${line}`;
    return this.isCompound(head, tail) ? before + line : before.slice(0, -1) + line;
  }

  private isCompound(head: string, tail: string): boolean {
    if (this.known.has(`${head}-${tail}`)) return true;
    if (this.known.has(head + tail)) return false;
    return head.split("-").every((part) => this.known.has(part)) && this.known.has(tail);
  }
}
