import type { Document, Paragraph } from "../document.js";

/** A "word" this long is no word of any language: base64, a hash of hashes, minified code. URLs are shorter. */
const LONGEST_WORD = 500;

/** Base64 wrapped into lines (RFC 2045 and 7468: 64 or 76 a line); so many of them in a row are a file, not a key. */
const WRAPPED = /(?:^[^\S\n]*[A-Za-z0-9+/]{60,}={0,2}[^\S\n]*(?:\n|$)){6,}(?:^[^\S\n]*[A-Za-z0-9+/]+={0,2}[^\S\n]*$)?/gm;

/** Marks, digits and letters without the spaces of a text: scripts that write without spaces have letters beyond ASCII. */
const LONG_RUN = new RegExp(`[\\x21-\\x7e]{${LONGEST_WORD},}`, "g");

/**
 * Minified code has spaces where it cannot do without, so longer stretches between them than prose has on a line, and is full
 * of brackets and quotes, which lists of files and addresses are not.
 */
const LONG_LINE = 500;
const LONGEST_MEAN_WORD = 14;
const CODE_MARKS = /[(){}[\];="']/g;
const MOST_CODE_MARKS = 0.08;

/** The document without what machines wrote for machines, and how many characters that was. */
export function withoutEncodedData(document: Document): { readonly document: Document; readonly characters: number } {
  let characters = 0;
  const paragraphs = document.paragraphs.flatMap((paragraph): Paragraph[] => {
    if (paragraph.text.length < LONGEST_WORD) return [paragraph];
    const text = withoutDenseLines(paragraph.text.replace(WRAPPED, "").replace(LONG_RUN, ""));
    characters += paragraph.text.length - text.length;
    return /\p{L}/u.test(text) ? [{ ...paragraph, text }] : [];
  });
  return characters === 0 ? { document, characters } : { document: { ...document, paragraphs }, characters };
}

function withoutDenseLines(text: string): string {
  return text.split("\n").filter((line) => line.length < LONG_LINE || !isDense(line)).join("\n");
}

/** Of ASCII: other scripts may have no spaces at all. */
function isDense(line: string): boolean {
  const ascii = line.match(/[\x21-\x7e]+/g) ?? [];
  const letters = ascii.reduce((sum, word) => sum + word.length, 0);
  const marks = line.match(CODE_MARKS)?.length ?? 0;
  return letters > line.length / 2 && letters / ascii.length > LONGEST_MEAN_WORD && marks > MOST_CODE_MARKS * line.length;
}
