import { basename } from "node:path";

import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import type { Loader } from "./loader.js";
import { titleOfPath } from "./title.js";

/** A first paragraph that is a title: one short line that does not end like a sentence. */
const TITLE = /^[^\n]{1,80}(?<![.!?:;,])$/;

/** Plain text: empty lines separate paragraphs; a short line by itself at the top is the title. */
export const loadText: Loader = (path, bytes) => {
  const paragraphs = paragraphsOf(decodeText(bytes));
  const top = paragraphs.length > 1 ? TITLE.exec(paragraphs[0]!.text.trim())?.[0] : undefined;
  return { documents: [{ path, title: top ?? titleOfPath(path), paragraphs }], problems: [] };
};

/** Source code, logs and configuration: unchanged, titled by their file name. */
export const loadSource: Loader = (path, bytes) => {
  return { documents: [{ path, title: basename(path), paragraphs: paragraphsOf(decodeText(bytes)) }], problems: [] };
};

/** Stretches between empty lines. Indentation is kept: it has meaning in code and lists. */
export function paragraphsOf(text: string): Paragraph[] {
  return text
    .split(/\r?\n[^\S\n]*(?=\r?\n)/)
    .map((part) => ({ text: part.replace(/^(?:[^\S\n]*\r?\n)+/, "").trimEnd() }))
    .filter((paragraph) => paragraph.text.trim() !== "");
}
