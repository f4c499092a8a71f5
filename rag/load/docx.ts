import { Archive } from "./archive.js";
import { readHtml } from "./html.js";
import type { Loader } from "./loader.js";
import { titleOfPath } from "./title.js";

/** Word's style for a document's title; mammoth knows the other headings. */
const STYLES = ["p[style-name='Title'] => h1:fresh", "p[style-name='Subtitle'] => h2:fresh"];

/** A Word document, read by mammoth: headings, lists and tables, without pictures. */
export const loadDocx: Loader = async (path, bytes) => {
  await (await Archive.open(bytes)).check();
  const { default: mammoth } = await import("mammoth");
  const convertImage = mammoth.images.imgElement(async () => ({ src: "" }));
  const { value } = await mammoth.convertToHtml(
    { buffer: Buffer.from(bytes) },
    { styleMap: STYLES, convertImage, externalFileAccess: false },
  );
  const { title, paragraphs } = readHtml(value);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};
