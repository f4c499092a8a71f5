import { Pace } from "../../plan/index.js";
import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import type { Loader } from "./loader.js";
import { PageReader } from "./page-reader.js";
import { titleLine, titleOfPath } from "./title.js";

/** Characters read in one step. */
const READ_AT_ONCE = 65_536;

/** A page's own text, without navigation, footers and scripts. */
export const loadHtml: Loader = async (path, bytes, { signal }) => {
  const html = decodeText(bytes, declaredEncoding(bytes));
  const [reader, pace] = [new PageReader(), new Pace(signal)];
  for (let start = 0; start < html.length; start += READ_AT_ONCE) {
    reader.read(html.slice(start, start + READ_AT_ONCE));
    await pace.breathe();
  }
  const { title, paragraphs } = pageOf(reader);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

type Page = { readonly title: string | undefined; readonly paragraphs: Paragraph[] };

/** @returns the title from `<title>`, or else from the first heading */
export function readHtml(html: string): Page {
  const reader = new PageReader();
  reader.read(html);
  return pageOf(reader);
}

function pageOf(reader: PageReader): Page {
  reader.close();
  const paragraphs = reader.content();
  return { title: titleLine(reader.title) ?? titleLine(paragraphs.find(({ heading }) => heading)?.text), paragraphs };
}

/** From `<meta charset="...">`, a content type or an XML declaration, in the first 1,024 bytes as HTML prescribes. */
function declaredEncoding(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 1024)).toString("latin1");
  return /<meta[^>]+charset\s*=\s*["']?([\w-]+)/i.exec(head)?.[1] ?? /^\s*<\?xml[^>]+encoding\s*=\s*["']([\w-]+)/i.exec(head)?.[1];
}
