import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import type { Loader } from "./loader.js";
import { titleOfPath } from "./title.js";

/** A first paragraph that is a title: one short line that does not end as a sentence does. */
const TITLE = /^[^\n]{1,80}(?<![.!?:;,])$/;

/** Plain text: empty lines part its paragraphs; a short line that stands alone at the top is its title. */
export const loadText: Loader = (path, bytes) => {
  const paragraphs = paragraphsOf(decodeText(bytes));
  const top = paragraphs.length > 1 ? TITLE.exec(paragraphs[0]!.text)?.[0] : undefined;
  return { documents: [{ path, title: top ?? titleOfPath(path), paragraphs }], problems: [] };
};

export function paragraphsOf(text: string): Paragraph[] {
  return text
    .split(/\r?\n[^\S\n]*\r?\n/)
    .map((part) => ({ text: part.trim() }))
    .filter((paragraph) => paragraph.text !== "");
}
