import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";

import type { PDFDocumentProxy, PDFPageProxy } from "pdfjs-dist";

import type { LoadProblem, Paragraph } from "../../document.js";
import { type Loader, type LoadOptions, MissingPackageError, UnreadableFileError } from "../loader.js";
import { paragraphsOf } from "../text.js";
import { titleLine, titleOfPath } from "../title.js";
import { fieldsOf } from "./fields.js";
import { isGibberish } from "./gibberish.js";
import { type Line, linesOf } from "./lines.js";
import { pictureOf, readPicture } from "./ocr.js";
import { paragraphsOfLines, titleOfFirstPage } from "./paragraphs.js";

/** The version that supports every Node version that kvsplice supports. */
const INSTALL = "npm install pdfjs-dist@~5.4.624";

/** A page with a picture and fewer letters than this is just the picture, perhaps with a number or a stamp. */
const PICTURE_LETTERS = 30;

/** The text of a form made with Adobe's LiveCycle for programs that cannot draw it. */
const PLACEHOLDER = /Please wait\.\.\.[\s\S]{0,200}(?:PDF viewer|proper contents)/i;

/** Titles that programs generate. */
const MADE_TITLE =
  /^(?:microsoft (?:word|powerpoint|excel)\b.*|untitled.*|document\d*|(?:print|slide|folie|presentation)\s*\d*|.*\.(?:docx?|odt|rtf|tex|dvi|indd|qxd|pptx?|xlsx?|fm|pdf|html?|txt))$/i;

/** Why a page is not stored. */
const REASONS = {
  damaged: "Damaged, and later pages may be missing; the others are read. Repair the file, for example with: qpdf in.pdf out.pdf",
  gibberish: "Unreadable text: its fonts do not say which letters they draw. Read it as a picture: --ocr COMMAND",
  picture: "A picture without a text layer. Read it with: --ocr COMMAND, or add a text layer, for example with ocrmypdf",
  wordless: "A picture in which the --ocr command found no text",
  placeholder: 'A placeholder ("Please wait...") for a form that only Adobe\'s programs show. Print it to a new PDF from there',
} as const;
type Reason = Exclude<keyof typeof REASONS, "damaged" | "wordless">;

/** The text of a PDF, page by page, with the values of its form fields. Pages that cannot be read are reported. */
export const loadPdf: Loader = async (path, bytes, options) => {
  const { getDocument, VerbosityLevel, folderOf } = await importPdfjs();
  const task = getDocument({
    data: Uint8Array.from(bytes),
    verbosity: VerbosityLevel.ERRORS,
    isEvalSupported: false,
    disableFontFace: true,
    enableXfa: true,
    cMapUrl: folderOf("cmaps"),
    cMapPacked: true,
    standardFontDataUrl: folderOf("standard_fonts"),
    wasmUrl: folderOf("wasm"),
  });
  try {
    const pages = await readPages(await task.promise, options);
    const lines = pages.flatMap((page) => page.lines);
    const paragraphs = [...paragraphsOfLines(lines), ...pages.flatMap((page) => page.others)].sort((a, b) => a.page! - b.page!);
    const problems = problemsOf(path, pages);
    if (paragraphs.length === 0 && problems.length === 0) {
      throw new UnreadableFileError(
        "It has no text layer (a scan, perhaps); read it with --ocr COMMAND, or add one, for example with ocrmypdf.",
      );
    }
    const title = await titleOf(await task.promise, lines);
    return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems };
  } catch (error) {
    throw reasoned(error);
  } finally {
    await task.destroy();
  }
};

/** pdf.js, and the folders of files that it reads: character maps of East Asian encodings, the 14 standard fonts, image decoders. */
async function importPdfjs() {
  try {
    const library = await import("pdfjs-dist/legacy/build/pdf.mjs");
    const folder = dirname(createRequire(import.meta.url).resolve("pdfjs-dist/package.json"));
    return { ...library, folderOf: (name: string) => join(folder, name) + sep };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new MissingPackageError(`PDF files are read by pdfjs-dist, which is not installed. Install it alongside kvsplice: ${INSTALL}`);
  }
}

type Page = { readonly number: number; readonly lines: readonly Line[]; readonly others: readonly Paragraph[]; readonly reason?: string };

async function readPages(pdf: PDFDocumentProxy, options: LoadOptions): Promise<Page[]> {
  const pages: Page[] = [];
  const hasFields = (await pdf.getFieldObjects()) !== null;
  for (let number = 1; number <= pdf.numPages; number++) {
    options.signal?.throwIfAborted();
    try {
      const page = await pdf.getPage(number);
      pages.push(await readPage(pdf, page, hasFields, options));
      page.cleanup();
    } catch (error) {
      if (options.signal?.aborted) throw error;
      pages.push({ number, lines: [], others: [], reason: REASONS.damaged });
    }
  }
  return pages;
}

async function readPage(pdf: PDFDocumentProxy, page: PDFPageProxy, hasFields: boolean, options: LoadOptions): Promise<Page> {
  const number = page.pageNumber;
  const { items } = await page.getTextContent();
  const lines = linesOf(
    items.filter((item) => "str" in item),
    number,
  );
  const others = hasFields ? await fieldsOf(page) : [];
  const reason = await reasonOf(page, lines);
  if (reason === undefined) return { number, lines, others };
  if (options.ocr === undefined || reason === "placeholder") return { number, lines: [], others, reason: REASONS[reason] };
  try {
    const read = paragraphsOf(await readPicture(options.ocr, await pictureOf(pdf, page), options.signal));
    if (read.length === 0) return { number, lines: [], others, reason: REASONS.wordless };
    return { number, lines: [], others: [...read.map((paragraph) => ({ ...paragraph, page: number })), ...others] };
  } catch (error) {
    if (options.signal?.aborted) throw error;
    return {
      number,
      lines: [],
      others,
      reason: `The --ocr command failed (${(error as Error).message}); try it on a single picture`,
    };
  }
}

async function reasonOf(page: PDFPageProxy, lines: readonly Line[]): Promise<Reason | undefined> {
  const text = lines.map((line) => line.text).join("\n");
  if (PLACEHOLDER.test(text)) return "placeholder";
  if (isGibberish(text)) return "gibberish";
  return text.replace(/\s/g, "").length < PICTURE_LETTERS && (await hasPicture(page)) ? "picture" : undefined;
}

async function hasPicture(page: PDFPageProxy): Promise<boolean> {
  const { OPS } = await import("pdfjs-dist/legacy/build/pdf.mjs");
  const pictures = new Set([
    OPS.paintImageXObject,
    OPS.paintInlineImageXObject,
    OPS.paintImageMaskXObject,
    OPS.paintImageXObjectRepeat,
    OPS.paintInlineImageXObjectGroup,
  ]);
  return (await page.getOperatorList()).fnArray.some((operator) => pictures.has(operator));
}

/** One problem per reason, with its pages. */
function problemsOf(path: string, pages: readonly Page[]): LoadProblem[] {
  const numbers = new Map<string, number[]>();
  for (const { number, reason } of pages) {
    if (reason !== undefined) numbers.set(reason, [...(numbers.get(reason) ?? []), number]);
  }
  return Array.from(numbers, ([reason, some]) => ({ path, pages: some, reason: `${reason}.` }));
}

/** The title in the metadata, if the first page confirms it or has none; otherwise the first page's title. */
async function titleOf(pdf: PDFDocumentProxy, lines: readonly Line[]): Promise<string | undefined> {
  const { info } = await pdf.getMetadata();
  const told = titleLine((info as { Title?: string }).Title);
  const named = told === undefined || MADE_TITLE.test(told) || isGibberish(told) ? undefined : told;
  const shown = lines.length === 0 ? undefined : titleLine(titleOfFirstPage(lines));
  const letters = (text: string) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
  const first = letters(
    lines
      .filter(({ page }) => page === lines[0]!.page)
      .map(({ text }) => text)
      .join(" "),
  );
  return named !== undefined && (shown === undefined || first.includes(letters(named))) ? named : (shown ?? named);
}

function reasoned(error: unknown): unknown {
  if (error instanceof UnreadableFileError || !(error instanceof Error) || error.name === "AbortError") return error;
  if (error.name === "PasswordException") {
    return new UnreadableFileError("It is encrypted; save it without a password, for example with: qpdf --decrypt");
  }
  return new UnreadableFileError(`It is broken (${error.message}); save it again from its source, or repair it with: qpdf in.pdf out.pdf`);
}
