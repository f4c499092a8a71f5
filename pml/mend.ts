/** Markup repaired so that it parses, for editors, with maps between the offsets of both texts. */
export type Mended = { readonly text: string; toMended(offset: number): number; toWritten(offset: number): number };

const TOKEN =
  /<!--[\s\S]*?(?:-->|$)|<!\[CDATA\[[\s\S]*?(?:\]\]>|$)|<\/?[A-Za-z_\u00C0-\uFFFF][^\s<>/="'&]*(?:[^<>"']|"[^"<]*"|'[^'<]*')*>|[<&]/g;
const REFERENCE = /^&(?:#\d+|#x[0-9A-Fa-f]+|\w+);/;

/**
 * Repairs any text so that it parses: a `<` or `&` that begins nothing becomes a space, as does a closing tag without an
 * opening one, and an unclosed element is closed where its parent is or where the text ends.
 */
export function mendMarkup(written: string): Mended {
  const insertions: { readonly at: number; readonly length: number }[] = [];
  const open: string[] = [];
  let text = "";
  let at = 0;
  const copy = (end: number) => {
    text += written.slice(at, end);
    at = end;
  };
  const close = (count: number, where: number) => {
    for (const name of open.splice(open.length - count).reverse()) {
      const tag = `</${name}>`;
      insertions.push({ at: where, length: tag.length });
      text += tag;
    }
  };
  const blank = (found: string) => {
    text += found.replace(/[^\n]/g, " ");
    at += found.length;
  };
  for (const match of written.matchAll(TOKEN)) {
    const [found] = match;
    if (match.index < at) continue;
    copy(match.index);
    if (found === "&" && REFERENCE.test(written.slice(at, at + 40))) continue;
    const whole = found.startsWith("<!--")
      ? found.endsWith("-->") && found.length >= "<!---->".length
      : found.startsWith("<![")
        ? found.endsWith("]]>")
        : found.length > 1;
    if (!whole) {
      blank(found);
      continue;
    }
    if (found.startsWith("<!")) continue;
    const name = /^<\/?([^\s<>/="'&]+)/.exec(found)![1]!;
    if (found.startsWith("</")) {
      const opened = open.lastIndexOf(name);
      if (opened === -1) {
        blank(found);
        continue;
      }
      close(open.length - opened - 1, match.index);
      open.pop();
    } else if (!found.endsWith("/>")) open.push(name);
  }
  copy(written.length);
  close(open.length, written.length);
  return {
    text,
    toMended: (offset) => insertions.reduce((sum, { at, length }) => (at < offset ? sum + length : sum), offset),
    toWritten: (offset) => {
      let shift = 0;
      for (const { at, length } of insertions) {
        if (at + shift >= offset) break;
        shift += Math.min(length, offset - at - shift);
      }
      return offset - shift;
    },
  };
}
