import { decodeText } from "./decode.js";
import type { Paragraph } from "../document.js";
import type { Loader } from "./loader.js";
import { PageReader } from "./page-reader.js";
import { titleLine, titleOfPath } from "./title.js";

/** A page: its own text, without navigation, footers and scripts. */
export const loadHtml: Loader = (path, bytes) => {
  const { title, paragraphs } = readHtml(decodeText(bytes, declaredEncoding(bytes)));
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

/** @returns the title by `<title>`, else by the first heading */
export function readHtml(html: string): { readonly title: string | undefined; readonly paragraphs: Paragraph[] } {
  const reader = new PageReader();
  reader.read(html);
  const paragraphs = reader.content();
  return { title: titleLine(reader.title) ?? titleLine(paragraphs.find(({ heading }) => heading)?.text), paragraphs };
}

/** `<meta charset="...">`, a content type's, or that of an XML declaration, in the first 1,024 bytes as HTML prescribes. */
function declaredEncoding(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 1024)).toString("latin1");
  return /<meta[^>]+charset\s*=\s*["']?([\w-]+)/i.exec(head)?.[1] ?? /^\s*<\?xml[^>]+encoding\s*=\s*["']([\w-]+)/i.exec(head)?.[1];
}
