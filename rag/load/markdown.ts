import type { List, ListItem, Nodes, RootContent, Table } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { toString } from "mdast-util-to-string";
import { gfmTable } from "micromark-extension-gfm-table";
import { parse } from "yaml";

import type { Paragraph } from "../document.js";
import { type Fields, fieldsOf } from "../fields.js";
import { decodeText } from "./decode.js";
import { readHtml } from "./html.js";
import type { Loader } from "./loader.js";
import { tableParagraphs } from "./table.js";
import { paragraphsOf } from "./text.js";
import { titleLine, titleOfPath } from "./title.js";

const FRONT_MATTER = /^---[^\S\n]*\r?\n([\s\S]*?)\r?\n---[^\S\n]*(?:\r?\n|$)/;

/** `<a name="top"></a># Heading`: a paragraph in Markdown, but meant as a heading. */
const ANCHORED_HEADING = /^(?:<a\b[^>]*>\s*<\/a>\s*)+(?=#{1,6}\s)/gm;

/** Nested quotes and lists; the parser takes quadratic time in the depth. */
const NESTED = /^(?:[^\S\n]*>|[^\S\n]*(?:[-*+]|\d+[.)])[^\S\n]){100}/m;

/** Markdown (CommonMark with tables), with the title from YAML front matter or the first heading, and the front matter's fields. */
export const loadMarkdown: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const front = FRONT_MATTER.exec(text);
  const paragraphs = markdownParagraphs(text.slice(front?.[0].length ?? 0));
  const { title = titleLine(paragraphs.find((paragraph) => paragraph.heading)?.text), fields, fault } = readFrontMatter(front?.[1] ?? "");
  const problems = fault === undefined ? [] : [{ path, reason: `Its front matter is not YAML (${fault}); correct it. The text is read.` }];
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs, fields }], problems };
};

/** @throws RangeError if quotes and lists are nested too deeply */
export function markdownParagraphs(text: string): Paragraph[] {
  if (NESTED.test(text)) throw new RangeError("nested too deeply");
  const extensions = { extensions: [gfmTable()], mdastExtensions: [gfmTableFromMarkdown()] };
  return fromMarkdown(text.replace(ANCHORED_HEADING, ""), extensions).children.flatMap(paragraphsOfNode);
}

function paragraphsOfNode(node: RootContent): Paragraph[] {
  switch (node.type) {
    case "heading":
      return written(flowed(node) || flowed(node, true), true);
    case "html":
      return readHtml(node.value).paragraphs;
    case "code":
      return paragraphsOf(node.value);
    case "table":
      return paragraphsOfTable(node);
    case "list":
      return paragraphsOfList(node);
    case "blockquote":
      return node.children.flatMap(paragraphsOfNode);
    case "definition":
      return [];
    default:
      return written(flowed(node));
  }
}

/** An item is a paragraph: its bullet or number, and its content indented by the same width. */
function paragraphsOfList(list: List): Paragraph[] {
  return list.children.flatMap((item, index) => paragraphsOfItem(item, list.ordered ? `${(list.start ?? 1) + index}. ` : "- "));
}

function paragraphsOfItem(item: ListItem, marker: string): Paragraph[] {
  const indent = " ".repeat(marker.length);
  const inner = item.children.flatMap(paragraphsOfNode);
  return inner.map(({ text, ...rest }, index) => ({
    ...rest,
    text: (index === 0 ? marker : indent) + text.replaceAll("\n", `\n${indent}`),
  }));
}

function paragraphsOfTable({ children: [columns, ...rows] }: Table): Paragraph[] {
  const cells = (row: Table["children"][number]) => row.children.map((cell) => flowed(cell));
  return tableParagraphs(columns && cells(columns), rows.map(cells));
}

/** The node's text; a line break becomes a space, as when rendered. Images are ignored, except in a heading without words. */
function flowed(node: Nodes, includeImageAlt = false): string {
  return toString(node, { includeHtml: false, includeImageAlt })
    .replace(/\s*\n\s*/g, " ")
    .trim();
}

function written(text: string, heading = false): Paragraph[] {
  if (text === "") return [];
  return [heading ? { text, heading } : { text }];
}

/** Title and fields; the title is also taken from invalid YAML, since people write `title: Tides: a table`. */
function readFrontMatter(yaml: string): { readonly title: string | undefined; readonly fields: Fields; readonly fault?: string } {
  try {
    const value: unknown = parse(yaml);
    const { title, ...fields } = typeof value === "object" && value !== null && !Array.isArray(value) ? fieldsOf(value) : {};
    return { title: titleLine(title?.toString()), fields };
  } catch (error) {
    const title = titleLine(/^title:[^\S\n]*(.+)$/m.exec(yaml)?.[1]);
    const [fault] = (error as Error).message.split("\n");
    return { title, fields: {}, fault: fault!.replace(/:$/, "") };
  }
}
