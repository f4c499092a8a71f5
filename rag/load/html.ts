import { htmlToText, type FormatCallback, type HtmlToTextOptions } from "html-to-text";

import type { Paragraph } from "../document.js";
import { decodeText } from "./decode.js";
import type { Loader } from "./loader.js";
import { titleLine, titleOfPath } from "./title.js";

/** What a page shows around its text. */
const BOILERPLATE = [
  "head", "title", "script", "style", "template", "noscript", "svg", "nav", "footer", "form", "button", "iframe",
  "[role=navigation]", "[role=contentinfo]", "[aria-hidden=true]", "[hidden]",
];

/** Starts the text of a heading on its way through the converter; taken out of the page's own text before. */
const HEADING_MARK = "\u0001";

const heading: FormatCallback = (element, walk, builder) => {
  builder.openBlock({ leadingLineBreaks: 2 });
  builder.addInline(HEADING_MARK);
  walk(element.children, builder);
  builder.closeBlock({ trailingLineBreaks: 2 });
};

const row: FormatCallback = (element, walk, builder) => {
  builder.openBlock({ leadingLineBreaks: 1 });
  for (const cell of element.children.filter((child) => child.name === "td" || child.name === "th")) {
    walk(cell.children, builder);
    builder.addInline(" ");
  }
  builder.closeBlock({ trailingLineBreaks: 1 });
};

const OPTIONS: HtmlToTextOptions = {
  baseElements: { selectors: ["main", "[role=main]"], returnDomByDefault: true },
  formatters: { markedHeading: heading, row },
  wordwrap: false,
  selectors: [
    ...BOILERPLATE.map((selector) => ({ selector, format: "skip" })),
    ...["h1", "h2", "h3", "h4", "h5", "h6"].map((selector) => ({ selector, format: "markedHeading" })),
    { selector: "a", options: { ignoreHref: true } },
    { selector: "img", format: "skip" },
    { selector: "hr", format: "skip" },
    { selector: "tr", format: "row" },
    { selector: "table", format: "block" },
    { selector: "ul", options: { itemPrefix: "- " } },
  ],
};

/** A page: what is in `<main>` where it has one, without navigation, footer and scripts. */
export const loadHtml: Loader = (path, bytes) => {
  const html = decodeText(bytes, declaredEncoding(bytes));
  const paragraphs = htmlParagraphs(html);
  const title = titleOfPage(html) ?? titleLine(paragraphs.find((paragraph) => paragraph.heading)?.text);
  return { documents: [{ path, title: title ?? titleOfPath(path), paragraphs }], problems: [] };
};

export function htmlParagraphs(html: string): Paragraph[] {
  return htmlToText(html.replaceAll(HEADING_MARK, ""), OPTIONS)
    .split(/\n\s*\n/)
    .map((part): Paragraph => {
      const text = part.replaceAll(HEADING_MARK, "").trim();
      return part.trimStart().startsWith(HEADING_MARK) ? { text, heading: true } : { text };
    })
    .filter((paragraph) => paragraph.text !== "");
}

function titleOfPage(html: string): string | undefined {
  const element = /<title[^>]*>[\s\S]*?<\/title\s*>/i.exec(html)?.[0].replace(/(<\/?)title/gi, "$1p");
  return element === undefined ? undefined : titleLine(htmlToText(element, { wordwrap: false }));
}

/** `<meta charset="...">`, or the same within a content type, in the first 1,024 bytes as HTML prescribes. */
function declaredEncoding(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 1024)).toString("latin1");
  return /<meta[^>]+charset\s*=\s*["']?([\w-]+)/i.exec(head)?.[1];
}
