import type { Document, Paragraph } from "../document.js";

/** A "word" this long is not a word of any language: base64, concatenated hashes, minified code. URLs are shorter. */
const LONGEST_WORD = 500;

/** Base64 wrapped into lines (RFC 2045 and 7468: 64 or 76 per line); this many lines in a row are a file, not a key. */
const WRAPPED = /(?:^[^\S\n]*[A-Za-z0-9+/]{60,}={0,2}[^\S\n]*(?:\n|$)){6,}(?:^[^\S\n]*[A-Za-z0-9+/]+={0,2}[^\S\n]*$)?/gm;

/** Marks, digits and letters without spaces: scripts that are written without spaces have letters beyond ASCII. */
const LONG_RUN = new RegExp(`[\\x21-\\x7e]{${LONGEST_WORD},}`, "g");

/**
 * Minified code has spaces only where it needs them, so its stretches without spaces are longer than a line of prose, and it is
 * full of brackets and quotes, unlike lists of files and addresses.
 */
const LONG_LINE = 500;
const LONGEST_MEAN_WORD = 14;
const CODE_MARKS = /[(){}[\];="']/g;
const MOST_CODE_MARKS = 0.08;

/** The document without machine-made data, and how many characters were removed. */
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
  return text
    .split("\n")
    .filter((line) => line.length < LONG_LINE || !isDense(line))
    .join("\n");
}

/** Counts only ASCII: other scripts may have no spaces at all. */
function isDense(line: string): boolean {
  const ascii = line.match(/[\x21-\x7e]+/g) ?? [];
  const letters = ascii.reduce((sum, word) => sum + word.length, 0);
  const marks = line.match(CODE_MARKS)?.length ?? 0;
  return letters > line.length / 2 && letters / ascii.length > LONGEST_MEAN_WORD && marks > MOST_CODE_MARKS * line.length;
}
