import type { Report } from "./diagnostic.js";
import type { Span } from "./source.js";
import { didYouMean } from "./suggest.js";

/** The entities that XML defines; without document types there are no others. */
const NAMED: ReadonlyMap<string, string> = new Map([
  ["amp", "&"],
  ["lt", "<"],
  ["gt", ">"],
  ["quot", '"'],
  ["apos", "'"],
]);

const REFERENCE = /&(?:#(\d+)|#x([0-9A-Fa-f]+)|([^\s&;<#]*));/g;
const AMPERSAND = /&(?:#(\d+);|#x([0-9A-Fa-f]+);|([^\s&;<#]{0,40});)?/g;

/** Text with its references replaced once: the result is not decoded again. Unknown references stay. */
export function decodeEntities(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(REFERENCE, (written, decimal?: string, hexadecimal?: string, name?: string) => {
    return (name === undefined ? characterOf(decimal, hexadecimal) : NAMED.get(name)) ?? written;
  });
}

/** @param orCdata words to add where a CDATA section could hold the character as it is */
export function reportEntities(span: Span, report: Report, orCdata = ""): void {
  const text = span.source.text.slice(span.start, span.end);
  if (!text.includes("&")) return;
  for (const match of text.matchAll(AMPERSAND)) {
    const [written, decimal, hexadecimal, name] = match;
    const start = span.start + match.index;
    const at = { ...span, start, end: start + written.length };
    if (written === "&") report("bad-entity", `\`&\` begins an entity; write \`&amp;\` for the character${orCdata}`, at);
    else if (name === undefined) {
      if (characterOf(decimal, hexadecimal) === undefined) report("bad-entity", `\`${written}\` is not a character that XML allows`, at);
    } else if (!NAMED.has(name)) {
      const known = "XML has `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&apos;` and `&#...;`";
      report("bad-entity", `no entity \`${written}\`${didYouMean(name, NAMED.keys()) || `; ${known}`}`, at);
    }
  }
}

function characterOf(decimal: string | undefined, hexadecimal: string | undefined): string | undefined {
  const codePoint = decimal === undefined ? Number.parseInt(hexadecimal ?? "", 16) : Number.parseInt(decimal, 10);
  return isXmlCharacter(codePoint) ? String.fromCodePoint(codePoint) : undefined;
}

/** XML 1.0, production 2 (Char). */
export function isXmlCharacter(codePoint: number): boolean {
  return (
    codePoint === 0x9 ||
    codePoint === 0xa ||
    codePoint === 0xd ||
    (codePoint >= 0x20 && codePoint <= 0xd7ff) ||
    (codePoint >= 0xe000 && codePoint <= 0xfffd) ||
    (codePoint >= 0x10000 && codePoint <= 0x10ffff)
  );
}
