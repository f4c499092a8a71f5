import { Parser } from "htmlparser2";

import type { Paragraph } from "../document.js";
import { InlineText } from "./inline-text.js";
import { rowText } from "./table.js";

/** Elements whose content is not the page's text. */
const SKIPPED = new Set([
  "head",
  "title",
  "script",
  "style",
  "template",
  "noscript",
  "svg",
  "nav",
  "footer",
  "button",
  "select",
  "textarea",
  "iframe",
  "object",
  "audio",
  "video",
  "canvas",
]);
const SKIPPED_ROLES = new Set(["navigation", "contentinfo", "search", "menu", "menubar"]);

/** Class names and ids with which generators of documentation and encyclopedias mark what surrounds a page's text. */
const SKIPPED_NAMES = new Set([
  "nav",
  "navbar",
  "navheader",
  "navfooter",
  "navigation",
  "navbox",
  "breadcrumb",
  "breadcrumbs",
  "sidebar",
  "sphinxsidebar",
  "headerlink",
  "anchor-link",
  "printfooter",
  "catlinks",
  "mw-editsection",
  "mw-jump-link",
  "noprint",
  "skip-link",
  "cookie-banner",
]);

/** Elements that begin and end a paragraph. */
const BLOCKS = new Set([
  "address",
  "article",
  "aside",
  "blockquote",
  "body",
  "caption",
  "center",
  "dd",
  "details",
  "dialog",
  "div",
  "dl",
  "dt",
  "fieldset",
  "figcaption",
  "figure",
  "form",
  "h1",
  "h2",
  "h3",
  "h4",
  "h5",
  "h6",
  "header",
  "hgroup",
  "hr",
  "legend",
  "li",
  "main",
  "ol",
  "p",
  "pre",
  "section",
  "summary",
  "table",
  "tbody",
  "tfoot",
  "thead",
  "tr",
  "ul",
]);

/** Elements with their own box within a line: a space separates them even if the source has none. */
const BOXES = new Set(["input", "label", "option", "img"]);

const HEADINGS = new Set(["h1", "h2", "h3", "h4", "h5", "h6"]);

/** Elements that show a table to be used only for layout, if they occur in a cell. */
const LAID_OUT = new Set(["table", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "dl", "form", "blockquote"]);

/** Blocks that are navigation if nearly all of their text is links. */
const MAY_NAVIGATE = new Set(["table", "ul", "ol", "dl", "div", "header", "aside", "section", "p", "center", "tr"]);
const NAVIGATION_LINKS = 3;
const NAVIGATION_SHARE = 0.8;
/** Menu links have few words; longer ones are the content of a table of contents or a list of sources. */
const NAVIGATION_LINK_LENGTH = 40;

/** Less text than this share of a page is not its topic: a page of links is about its links. */
const LEAST_SHARE = 0.25;

/** Deeper lists are indented no further. */
const DEEPEST_INDENT = 8;

type Entry = { text: string; heading: boolean; columns: string | undefined; main: boolean; navigation: boolean };

type Element = {
  readonly skipped: boolean;
  /** Entries, characters, links and their characters before it. */
  readonly entries: number;
  readonly characters: number;
  readonly links: number;
  readonly linkCharacters: number;
  /** Opened a `<main>`, `<article>` or similar. */
  readonly main: boolean;
  readonly link: boolean;
};

type List = { readonly numbered: boolean; next: number };
type Row = { cells: string[]; headings: number };
type Table = { columns: string | undefined; row: Row | undefined; rows: number };

/**
 * Reads a page's text from parser events in sequence, so that nesting may be arbitrarily deep. Paragraphs,
 * headings, list items, definitions and table rows become separate paragraphs; `<pre>` keeps its spaces.
 */
export class PageReader {
  title: string | undefined;
  private readonly parser = new Parser(
    {
      onopentag: (name, attributes) => this.begin(name, attributes),
      onclosetag: (name) => this.end(name),
      ontext: (text) => this.write(text),
    },
    { recognizeSelfClosing: true },
  );
  private readonly entries: Entry[] = [];
  private readonly open: Element[] = [];
  private readonly lists: List[] = [];
  private readonly tables: Table[] = [];
  private skipping = 0;
  private drawings = 0;
  private mains = 0;
  private links = 0;
  private pre = 0;
  private characters = 0;
  private linkCount = 0;
  private linkCharacters = 0;
  /** Where in the text a link ended: a link that begins there is a separate box. */
  private linkEnd = 0;
  /** Text of the current paragraph. */
  private readonly text = new InlineText();
  private marker = "";
  private heading = false;
  private inTitle = false;
  /** An image's alternative text, for a heading without other words. */
  private alternative = "";

  /** Reads a page, or the next part of it. */
  read(html: string): void {
    this.parser.write(html);
  }

  /** Closes whatever is open. */
  close(): void {
    this.parser.end();
    this.endParagraph();
  }

  /** The page's own paragraphs: those of its main part, if it has one, without navigation. */
  content(): Paragraph[] {
    const useful = shareOr(
      this.entries,
      this.entries.filter(({ navigation }) => !navigation),
    );
    const main = shareOr(
      useful,
      useful.filter((entry) => entry.main),
    );
    return main.map(({ text, heading, columns }) => ({
      text,
      ...(heading ? { heading } : {}),
      ...(columns === undefined ? {} : { columns }),
    }));
  }

  private begin(name: string, attributes: Readonly<Record<string, string>>): void {
    const skipped = this.skipping > 0 || isSkipped(name, attributes);
    if (name === "title" && this.title === undefined && this.drawings === 0) {
      this.inTitle = true;
      this.title = "";
    }
    if (name === "svg") this.drawings++;
    const { characters, linkCharacters } = this;
    const main = !skipped && (name === "main" || name === "article" || attributes["role"] === "main" || attributes["role"] === "article");
    if (skipped) this.skipping++;
    else this.enter(name, attributes);
    const link = !skipped && name === "a" && "href" in attributes;
    this.open.push({ skipped, entries: this.entries.length, characters, links: this.linkCount, linkCharacters, main, link });
    if (main) this.mains++;
    if (link) {
      this.links++;
      this.linkCount++;
    }
  }

  private enter(name: string, attributes: Readonly<Record<string, string>>): void {
    if (LAID_OUT.has(name) && this.row) this.layOut();
    if (BLOCKS.has(name)) this.endParagraph();
    else if (name === "br") this.breakLine();
    else if (BOXES.has(name) || hasBox(attributes["style"]) || (name === "a" && this.text.length === this.linkEnd && this.linkEnd > 0))
      this.space();
    switch (name) {
      case "ul":
      case "ol":
        this.lists.push({ numbered: name === "ol", next: Number(attributes["start"] ?? 1) || 1 });
        break;
      case "li":
        this.marker = this.markerOf(attributes);
        break;
      case "pre":
        this.pre++;
        break;
      case "table":
        this.tables.push({ columns: undefined, row: undefined, rows: 0 });
        break;
      case "tr":
        if (this.tables.length > 0) this.tables.at(-1)!.row = { cells: [], headings: 0 };
        break;
      case "td":
      case "th":
        this.beginCell(name);
        break;
      case "img":
        this.alternative ||= attributes["alt"] ?? "";
        break;
      default:
        if (HEADINGS.has(name)) this.heading = true;
    }
  }

  private end(name: string): void {
    if (name === "title") this.inTitle = false;
    if (name === "svg") this.drawings--;
    const element = this.open.pop();
    if (element === undefined) return;
    if (element.skipped) {
      this.skipping--;
      return;
    }
    if (element.link) {
      this.links--;
      this.linkEnd = this.text.length;
    }
    if (HEADINGS.has(name) && this.text.length === 0) this.text.put(this.alternative);
    if (name === "td" || name === "th") this.endCell();
    else if (BLOCKS.has(name)) this.endParagraph();
    this.alternative = name === "img" ? this.alternative : "";
    this.leave(name);
    if (MAY_NAVIGATE.has(name) && this.mains === 0) this.judge(element);
    if (element.main) this.mains--;
  }

  private leave(name: string): void {
    switch (name) {
      case "ul":
      case "ol":
        this.lists.pop();
        break;
      case "li":
        this.marker = "";
        break;
      case "pre":
        this.pre--;
        break;
      case "tr":
        this.endRow();
        break;
      case "table":
        this.tables.pop();
    }
  }

  private write(text: string): void {
    if (this.inTitle) this.title += text;
    if (this.skipping > 0) return;
    const characters = text.replace(/\s+/g, "").length;
    this.characters += characters;
    if (this.links > 0) this.linkCharacters += characters;
    if (this.pre > 0) this.text.put(text);
    else this.text.flow(text);
  }

  private space(): void {
    if (this.pre === 0) this.text.flow(" ");
  }

  private breakLine(): void {
    this.text.put("\n");
  }

  private endParagraph(): void {
    if (this.row && this.row.cells.length > 0) {
      this.space();
      return;
    }
    const read = this.text.take();
    const text = this.pre > 0 ? read : read.replace(/ *\n */g, "\n").trim();
    const parts = this.pre > 0 ? text.split(/\n(?:[^\S\n]*\n)+/).map((part) => part.replace(/^\n+/, "").trimEnd()) : [text];
    for (const part of parts) {
      if (part.trim() === "") continue;
      this.put(this.marker === "" ? part : `${this.marker}${part}`);
      this.marker = " ".repeat(this.marker.length);
    }
    this.heading = false;
  }

  private put(text: string, columns?: string): void {
    this.entries.push({ text, heading: this.heading, columns, main: this.mains > 0, navigation: false });
  }

  /** `- `, or `3. ` as the page counts, indented by the depth of the list. */
  private markerOf(attributes: Readonly<Record<string, string>>): string {
    const list = this.lists.at(-1);
    const indent = "  ".repeat(Math.min(this.lists.length - 1, DEEPEST_INDENT));
    if (list?.numbered !== true) return `${indent}- `;
    list.next = Number(attributes["value"] ?? list.next) || list.next;
    return `${indent}${list.next++}. `;
  }

  private get row(): Row | undefined {
    return this.tables.at(-1)?.row;
  }

  private beginCell(name: "td" | "th"): void {
    if (this.row === undefined) return this.endParagraph();
    this.row.cells.push("");
    if (name === "th") this.row.headings++;
    this.text.take();
  }

  private endCell(): void {
    if (this.row === undefined || this.row.cells.length === 0) return this.endParagraph();
    this.row.cells[this.row.cells.length - 1] = this.text.take().replace(/\s+/g, " ").trim();
  }

  private endRow(): void {
    const table = this.tables.at(-1);
    const row = table?.row;
    if (table === undefined || row === undefined) return;
    table.row = undefined;
    const text = rowText(row.cells);
    if (text === "") return;
    const filled = row.cells.filter((cell) => cell !== "").length;
    const names = table.rows++ === 0 && filled > 1 && row.headings === row.cells.length;
    if (names) table.columns = text;
    else this.put(text, table.columns);
  }

  /** The current row belongs to a table used for layout: its cells' content is read as if there were no table. */
  private layOut(): void {
    const text = this.text.take();
    const cells = this.row!.cells.slice(0, -1);
    this.tables.at(-1)!.row = undefined;
    for (const cell of cells) {
      this.text.put(cell);
      this.endParagraph();
    }
    this.text.put(text);
    this.endParagraph();
  }

  /** Marks an element's content as navigation if it is little more than links. */
  private judge(element: Element): void {
    const links = this.linkCount - element.links;
    const linkCharacters = this.linkCharacters - element.linkCharacters;
    const characters = this.characters - element.characters;
    if (links < NAVIGATION_LINKS || linkCharacters < NAVIGATION_SHARE * characters || linkCharacters / links > NAVIGATION_LINK_LENGTH)
      return;
    for (const entry of this.entries.slice(element.entries)) entry.navigation = true;
  }
}

function isSkipped(name: string, attributes: Readonly<Record<string, string>>): boolean {
  if (SKIPPED.has(name) || "hidden" in attributes || attributes["aria-hidden"] === "true") return true;
  if (SKIPPED_ROLES.has(attributes["role"] ?? "")) return true;
  if (/display\s*:\s*none/i.test(attributes["style"] ?? "")) return true;
  if (name === "html" || name === "body" || name === "main" || name === "article") return false;
  return `${attributes["class"] ?? ""} ${attributes["id"] ?? ""}`.split(/\s+/).some((word) => SKIPPED_NAMES.has(word.toLowerCase()));
}

function hasBox(style: string | undefined): boolean {
  return style !== undefined && /display\s*:\s*(inline-)?(block|flex|grid|table)/i.test(style);
}

/** The part, unless it is too small a share of the page to be its topic. */
function shareOr(whole: readonly Entry[], part: readonly Entry[]): readonly Entry[] {
  const size = (entries: readonly Entry[]) => entries.reduce((sum, { text }) => sum + text.length, 0);
  return size(part) >= LEAST_SHARE * size(whole) ? part : whole;
}
