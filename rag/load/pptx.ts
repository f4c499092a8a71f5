import { posix } from "node:path";

import type { Paragraph } from "../document.js";
import { Archive } from "./archive.js";
import { type Loader, UnreadableFileError } from "./loader.js";
import { tableParagraphs } from "./table.js";
import { titleLine, titleOfPath } from "./title.js";
import { attributeOf, childrenOf, elements, nameOf, parseXml, textOf, type XmlNode } from "./xml.js";

const PRESENTATION = "ppt/presentation.xml";
const NOTES = /\/relationships\/notesSlide$/;

/** A presentation (ECMA-376, PresentationML): its slides in order, with tables and notes. A slide's title is a heading. */
export const loadPptx: Loader = async (path, bytes) => {
  const archive = await Archive.open(bytes);
  const presentation = await archive.text(PRESENTATION);
  if (presentation === undefined) throw new UnreadableFileError("It is not a presentation; save it again from its source.");
  const targets = await relationsOf(archive, PRESENTATION);
  const paragraphs: Paragraph[] = [];
  let page = 0;
  for (const slide of elements(parseXml(presentation), "p:sldId")) {
    const target = targets.get(attributeOf(slide, "r:id") ?? "")?.target;
    const xml = target && (await archive.text(target));
    page++;
    if (!target || !xml) continue;
    const notes = [...(await relationsOf(archive, target)).values()].find(({ type }) => NOTES.test(type));
    const said = [
      ...paragraphsOfSlide(parseXml(xml)),
      ...(notes ? paragraphsOfSlide(parseXml((await archive.text(notes.target)) ?? "")) : []),
    ];
    paragraphs.push(...said.map((paragraph) => ({ ...paragraph, page })));
  }
  const title = titleLine(paragraphs.find(({ heading }) => heading)?.text);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

function paragraphsOfSlide(slide: readonly XmlNode[]): Paragraph[] {
  const paragraphs: Paragraph[] = [];
  const visit = (nodes: readonly XmlNode[]) => {
    for (const node of nodes) {
      if (nameOf(node) === "p:sp") paragraphs.push(...paragraphsOfShape(node));
      else if (nameOf(node) === "a:tbl") paragraphs.push(...paragraphsOfTable(node));
      else visit(childrenOf(node));
    }
  };
  visit(slide);
  return paragraphs;
}

/** Slide numbers, dates and footers are repeated on every slide. */
const REPEATED = new Set(["sldNum", "dt", "ftr", "hdr", "sldImg"]);

function paragraphsOfShape(shape: XmlNode): Paragraph[] {
  const [placeholder] = elements([shape], "p:ph");
  const kind = placeholder && attributeOf(placeholder, "type");
  if (kind !== undefined && REPEATED.has(kind)) return [];
  const texts = Array.from(elements([shape], "a:p"), lineOf).filter((text) => text !== "");
  if (kind !== "title" && kind !== "ctrTitle") return texts.map((text) => ({ text }));
  return texts.length === 0 ? [] : [{ text: texts.join(" "), heading: true }];
}

function paragraphsOfTable(table: XmlNode): Paragraph[] {
  const [columns, ...rows] = Array.from(elements([table], "a:tr"), (row) =>
    Array.from(elements([row], "a:tc"), (cell) => Array.from(elements([cell], "a:p"), lineOf).join(" ")),
  );
  return tableParagraphs(columns, rows);
}

function lineOf(paragraph: XmlNode): string {
  return childrenOf(paragraph)
    .map((run) => (nameOf(run) === "a:br" ? " " : textOf(run)))
    .join("")
    .replace(/\s+/g, " ")
    .trim();
}

type Relation = { readonly type: string; readonly target: string };

/** What a part refers to, by id (ECMA-376 part 2). */
async function relationsOf(archive: Archive, part: string): Promise<Map<string, Relation>> {
  const { dir, base } = posix.parse(part);
  const xml = await archive.text(`${dir}/_rels/${base}.rels`);
  const relations = xml === undefined ? [] : [...elements(parseXml(xml), "Relationship")];
  return new Map(
    relations.map((relation) => [
      attributeOf(relation, "Id") ?? "",
      {
        type: attributeOf(relation, "Type") ?? "",
        target: posix.join(dir, attributeOf(relation, "Target") ?? ""),
      },
    ]),
  );
}
