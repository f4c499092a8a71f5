import type { List, ListItem, Nodes, RootContent, Table } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { toString } from "mdast-util-to-string";
import { gfmTable } from "micromark-extension-gfm-table";

import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import { readHtml } from "./html.js";
import type { Loader } from "./loader.js";
import { tableParagraphs } from "./table.js";
import { paragraphsOf } from "./text.js";
import { titleLine, titleOfPath } from "./title.js";

const FRONT_MATTER = /^---[^\S\n]*\r?\n([\s\S]*?)\r?\n---[^\S\n]*(?:\r?\n|$)/;

/** `<a name="top"></a># Heading`: Markdown takes the line for a paragraph, its author for a heading. */
const ANCHORED_HEADING = /^(?:<a\b[^>]*>\s*<\/a>\s*)+(?=#{1,6}\s)/gm;

/** Quotes and lists within each other; the parser takes time by the square of it. */
const NESTED = /^(?:[^\S\n]*>|[^\S\n]*(?:[-*+]|\d+[.)])[^\S\n]){100}/m;

/** Markdown (CommonMark with tables), with the title from YAML front matter or from the first heading. */
export const loadMarkdown: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const front = FRONT_MATTER.exec(text);
  const paragraphs = markdownParagraphs(text.slice(front?.[0].length ?? 0));
  const title = titleOfFrontMatter(front?.[1]) ?? titleLine(paragraphs.find((paragraph) => paragraph.heading)?.text);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

/** @throws RangeError where quotes and lists are nested beyond a bound */
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

/** An item is a paragraph: its bullet or number, and what is below it indented by as much. */
function paragraphsOfList(list: List): Paragraph[] {
  return list.children.flatMap((item, index) => paragraphsOfItem(item, list.ordered ? `${(list.start ?? 1) + index}. ` : "- "));
}

function paragraphsOfItem(item: ListItem, marker: string): Paragraph[] {
  const indent = " ".repeat(marker.length);
  const inner = item.children.flatMap(paragraphsOfNode);
  return inner.map(({ text, ...rest }, index) => ({ ...rest, text: (index === 0 ? marker : indent) + text.replaceAll("\n", `\n${indent}`) }));
}

function paragraphsOfTable({ children: [columns, ...rows] }: Table): Paragraph[] {
  const cells = (row: Table["children"][number]) => row.children.map((cell) => flowed(cell));
  return tableParagraphs(columns && cells(columns), rows.map(cells));
}

/** The node's text; a line break within it is a space, as it is when rendered. An image says nothing, but in a heading without words. */
function flowed(node: Nodes, includeImageAlt = false): string {
  return toString(node, { includeHtml: false, includeImageAlt }).replace(/\s*\n\s*/g, " ").trim();
}

function written(text: string, heading = false): Paragraph[] {
  if (text === "") return [];
  return [heading ? { text, heading } : { text }];
}

function titleOfFrontMatter(yaml: string | undefined): string | undefined {
  const value = /^title:[^\S\n]*(.+)$/m.exec(yaml ?? "")?.[1]?.trim();
  return titleLine(value?.replace(/^(["'])(.*)\1$/, "$2"));
}
