import type { Nodes } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { toString } from "mdast-util-to-string";
import { gfmTable } from "micromark-extension-gfm-table";
import type { Formatted, FormattedTag } from "./events.js";

/** Deeply nested quotes and lists. The parser takes quadratic time for them, and no real answer has them. */
const NESTED = /^(?:[^\S\n]*>|[^\S\n]*(?:[-*+]|\d+[.)])[^\S\n]){20}/m;

/** Headings of an answer are below the levels of the page's. */
const HEADINGS: readonly FormattedTag[] = ["h3", "h4", "h5", "h6"];

/** A Markdown answer as elements that are safe for a page: HTML becomes text, an image its description, and nothing is loaded. */
export function formatted(markdown: string): readonly Formatted[] {
  if (NESTED.test(markdown)) return [{ tag: "p", children: [markdown] }];
  return childrenOf(fromMarkdown(markdown, { extensions: [gfmTable()], mdastExtensions: [gfmTableFromMarkdown()] }));
}

function childrenOf(node: Nodes): readonly Formatted[] {
  return "children" in node ? node.children.flatMap(formattedNode) : [];
}

function formattedNode(node: Nodes): readonly Formatted[] {
  const as = (tag: FormattedTag, more: { readonly href?: string; readonly start?: number } = {}): Formatted[] => [
    { tag, children: childrenOf(node), ...more },
  ];
  switch (node.type) {
    case "text":
    case "html":
      return [node.value];
    case "paragraph":
      return as("p");
    case "heading":
      return as(HEADINGS[Math.min(node.depth, HEADINGS.length) - 1]!);
    case "blockquote":
      return as("blockquote");
    case "list":
      return node.ordered ? as("ol", { start: node.start ?? 1 }) : as("ul");
    case "listItem":
      return as("li");
    case "thematicBreak":
      return as("hr");
    case "break":
      return as("br");
    case "emphasis":
      return as("em");
    case "strong":
      return as("strong");
    case "inlineCode":
      return [{ tag: "code", children: [node.value] }];
    case "code":
      return [{ tag: "pre", children: [{ tag: "code", children: [node.value] }] }];
    case "link":
      return leadsOut(node.url) ? as("a", { href: node.url }) : childrenOf(node);
    case "image":
      return [node.alt ? `[picture: ${node.alt}]` : "[picture]"];
    case "imageReference":
      return [`[picture: ${node.alt ?? node.identifier}]`];
    case "linkReference":
      return childrenOf(node);
    case "table": {
      const [head, ...rows] = node.children.map(({ children }) => children.map(childrenOf));
      const row =
        (tag: "th" | "td") =>
        (cells: readonly (readonly Formatted[])[]): Formatted => ({ tag: "tr", children: cells.map((children) => ({ tag, children })) });
      return [{ tag: "table", children: [...(head ? [row("th")(head)] : []), ...rows.map(row("td"))] }];
    }
    case "definition":
      return [`[${node.label ?? node.identifier}]: ${node.url}`];
    default:
      return [toString(node)];
  }
}

/** Whether a URL is a web address, not a script or a file. */
function leadsOut(url: string): boolean {
  return /^https?:\/\//i.test(url) && URL.canParse(url);
}
