import { createRequire } from "node:module";
import { dirname, join } from "node:path";

import type { TextItem } from "pdfjs-dist/types/src/display/api.js";

import type { Paragraph } from "../document.js";
import { type Loader, Unloadable } from "./loader.js";
import { titleLine, titleOfPath } from "./title.js";

/** Lines further apart than this many line heights belong to different paragraphs; set text has 1.0 to 1.4. */
const PARAGRAPH_GAP = 1.6;

/** Character maps of the PDF standard's East Asian encodings, which pdf.js reads as files. */
const CHARACTER_MAPS = join(dirname(createRequire(import.meta.url).resolve("pdfjs-dist/package.json")), "cmaps") + "/";

/** The text layer of a PDF, page by page in reading order. */
export const loadPdf: Loader = async (path, bytes) => {
  const { getDocument, VerbosityLevel } = await import("pdfjs-dist/legacy/build/pdf.mjs");
  const task = getDocument({
    data: Uint8Array.from(bytes),
    verbosity: VerbosityLevel.ERRORS,
    isEvalSupported: false,
    disableFontFace: true,
    cMapUrl: CHARACTER_MAPS,
    cMapPacked: true,
  });
  try {
    const pdf = await task.promise;
    const paragraphs: Paragraph[] = [];
    for (let number = 1; number <= pdf.numPages; number++) {
      const page = await pdf.getPage(number);
      const content = await page.getTextContent();
      paragraphs.push(...paragraphsOfPage(content.items.filter((item) => "str" in item)));
      page.cleanup();
    }
    if (paragraphs.length === 0) {
      throw new Unloadable("It has no text layer (a scan, perhaps); add one with OCR, for example with ocrmypdf.");
    }
    const { info } = await pdf.getMetadata();
    const title = titleLine((info as { Title?: string }).Title) ?? titleOfPath(path);
    return { documents: [{ path, title, paragraphs }], problems: [] };
  } catch (error) {
    throw reasoned(error);
  } finally {
    await task.destroy();
  }
};

function paragraphsOfPage(items: readonly TextItem[]): Paragraph[] {
  const paragraphs: string[] = [];
  let line = "";
  let lineTop: number | undefined;
  let previousTop: number | undefined;
  let height = 0;
  const endLine = () => {
    const text = line.trim();
    line = "";
    if (text === "") return;
    const gap = previousTop === undefined || lineTop === undefined ? Infinity : Math.abs(previousTop - lineTop);
    const before = paragraphs.at(-1);
    if (before === undefined || gap > PARAGRAPH_GAP * height) paragraphs.push(text);
    else paragraphs[paragraphs.length - 1] = joinLines(before, text);
    previousTop = lineTop;
  };
  for (const item of items) {
    if (item.str.trim() !== "") {
      height = item.height || height;
      lineTop = item.transform[5] as number;
    }
    line += item.str;
    if (item.hasEOL) endLine();
  }
  endLine();
  return paragraphs.map((text) => ({ text }));
}

/** A word that is broken over two lines becomes one again. */
function joinLines(before: string, line: string): string {
  return /\p{L}-$/u.test(before) && /^\p{Ll}/u.test(line) ? before.slice(0, -1) + line : `${before} ${line}`;
}

function reasoned(error: unknown): Unloadable {
  if (error instanceof Unloadable) return error;
  const { name, message } = error as Error;
  if (name === "PasswordException") {
    return new Unloadable("It is encrypted; save it without a password, for example with: qpdf --decrypt");
  }
  return new Unloadable(`It is broken (${message}); save it again from its source, or repair it with: qpdf in.pdf out.pdf`);
}
