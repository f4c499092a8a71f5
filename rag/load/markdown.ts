import type { RootContent } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";
import { toString } from "mdast-util-to-string";

import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import { htmlParagraphs } from "./html.js";
import type { Loader } from "./loader.js";
import { titleLine, titleOfPath } from "./title.js";

const FRONT_MATTER = /^---[^\S\n]*\r?\n([\s\S]*?)\r?\n---[^\S\n]*(?:\r?\n|$)/;

/** Markdown (CommonMark), with the title from YAML front matter or from the first heading. */
export const loadMarkdown: Loader = (path, bytes) => {
  const text = decodeText(bytes);
  const front = FRONT_MATTER.exec(text);
  const paragraphs = fromMarkdown(text.slice(front?.[0].length ?? 0)).children.flatMap(paragraphsOfNode);
  const title = titleOfFrontMatter(front?.[1]) ?? titleLine(paragraphs.find((paragraph) => paragraph.heading)?.text);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

function paragraphsOfNode(node: RootContent): Paragraph[] {
  switch (node.type) {
    case "heading":
      return written(flowed(node), true);
    case "html":
      return htmlParagraphs(node.value);
    case "code":
      return written(node.value);
    case "list":
    case "listItem":
    case "blockquote":
      return node.children.flatMap(paragraphsOfNode);
    default:
      return written(flowed(node));
  }
}

/** The node's text; a line break within it is a space, as it is when rendered, but a table keeps its rows. */
function flowed(node: RootContent): string {
  const text = toString(node, { includeHtml: false });
  return text.startsWith("|") ? text : text.replace(/\s*\n\s*/g, " ");
}

function written(text: string, heading = false): Paragraph[] {
  if (text.trim() === "") return [];
  return [heading ? { text: text.trim(), heading } : { text: text.trim() }];
}

function titleOfFrontMatter(yaml: string | undefined): string | undefined {
  const value = /^title:[^\S\n]*(.+)$/m.exec(yaml ?? "")?.[1]?.trim();
  return titleLine(value?.replace(/^(["'])(.*)\1$/, "$2"));
}
