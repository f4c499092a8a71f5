import { posix } from "node:path";

import type { Document } from "../document.js";
import { Archive } from "./archive.js";
import { readHtml } from "./html.js";
import { type Loader, UnreadableFileError } from "./loader.js";
import { titleLine, titleOfPath } from "./title.js";
import { attributeOf, elements, parseXml, textOf } from "./xml.js";

/** A book (EPUB 2 and 3, "Open Container Format"): its pages in reading order, each a document with the book's title. */
export const loadEpub: Loader = async (path, bytes) => {
  const archive = await Archive.open(bytes);
  const container = parseXml((await archive.text("META-INF/container.xml")) ?? "");
  const [root] = elements(container, "rootfile");
  const opf = (root && attributeOf(root, "full-path")) ?? "";
  const text = await archive.text(opf);
  if (text === undefined) throw new UnreadableFileError("It is not an EPUB book; save it again from its source.");
  const book = parseXml(text);

  const files = new Map(Array.from(elements(book, "item"), (item) => [attributeOf(item, "id") ?? "", item]));
  const [named] = elements(book, "dc:title");
  const title = titleLine(named && textOf(named)) ?? titleOfPath(path);
  const documents: Document[] = [];
  for (const reference of elements(book, "itemref")) {
    const item = files.get(attributeOf(reference, "idref") ?? "");
    if (item === undefined || attributeOf(item, "properties")?.split(" ").includes("nav")) continue;
    const name = posix.join(posix.dirname(opf), decodeURIComponent(attributeOf(item, "href") ?? ""));
    const page = readHtml((await archive.text(name)) ?? "");
    const heading = titleLine(page.paragraphs.find((paragraph) => paragraph.heading)?.text);
    if (page.paragraphs.length > 0) {
      documents.push({
        path,
        title: heading === undefined || heading === title ? title : `${title}: ${heading}`,
        paragraphs: page.paragraphs,
      });
    }
  }
  return { documents, problems: [] };
};
