import { decodeEntities } from "./entity.js";
import type { Span } from "./source.js";
import type { Space, Wrap } from "./tree.js";
import type { XmlComment, XmlElement, XmlNode } from "./xml.js";

/**
 * The whitespace rule: which parts of an element's content are text. Text is kept as written, except for the layout of
 * the markup around it:
 *
 * - the indentation that all lines have in common,
 * - blank lines at both ends,
 * - lines with only a tag, ignoring comments (Mustache calls such tags standalone), and blank lines between them.
 *
 * A module or union that has its lines to itself ends with the last line's line feed; one within a line is part of
 * that line. CDATA sections and characters written as references are never layout. Whitespace is space, tab and
 * line feed; a no-break space is text.
 */
export type TextRule = {
  readonly space: Space;
  readonly wrap: Wrap;
  readonly ends: Ends;
};

/**
 * How the content ends. `lines`: the element has its lines to itself, so its text ends with a line feed.
 * `bare`: its text ends without one, whatever follows. `written`: it ends with a line feed if the content's
 * last line does. `inline`: like `bare`, and its first line continues another.
 */
export type Ends = "lines" | "bare" | "written" | "inline";

/** How an element affects the lines that contain it. */
export type LineRole =
  /** Part of the line, like text. */
  | "word"
  /** Includes its lines if it has them to itself. */
  | "lines"
  /** Text before or after it does not continue past it: whitespace next to it is layout. */
  | "control"
  /** Represents something that follows the preceding text; a separate line for it is layout. */
  | "place"
  /** Like a comment: has no effect on the text. */
  | "nothing";

export type Settled =
  | {
      readonly kind: "text";
      readonly text: string;
      /** Its lines before soft wraps were joined. */ readonly written?: string;
      readonly cdata?: true;
      readonly span: Span;
    }
  | { readonly kind: "comment"; readonly comment: XmlComment }
  | { readonly kind: "element"; readonly element: XmlElement /** Whether it has its lines to itself. */; readonly alone: boolean };

export function settleText(children: readonly XmlNode[], rule: TextRule, roleOf: (element: XmlElement) => LineRole): Settled[] {
  const pieces = rule.space === "preserve" ? children.map(preserved) : settleLines(linesOf(children), rule, roleOf);
  return mergeTexts(pieces);
}

/** A piece of text while lines are settled; `raw` has references, `soft` is the text with soft wraps joined. */
type Piece = Settled | { readonly kind: "raw"; readonly raw: string; readonly soft: string; readonly span: Span };

function preserved(node: XmlNode): Piece {
  switch (node.kind) {
    case "text":
      return { kind: "raw", raw: node.raw, soft: node.raw, span: node.span };
    case "cdata":
      return { kind: "text", text: node.text, cdata: true, span: node.span };
    case "comment":
      return { kind: "comment", comment: node };
    case "element":
      return { kind: "element", element: node, alone: false };
  }
}

type Line = {
  readonly nodes: XmlNode[];
  /** Whether a line feed of the source ends it. */
  ended: boolean;
};

/** The content in lines of the source; the content of an element or a CDATA section belongs to its line. */
function linesOf(children: readonly XmlNode[]): Line[] {
  let line: Line = { nodes: [], ended: false };
  const lines = [line];
  for (const node of children) {
    if (node.kind !== "text") {
      line.nodes.push(node);
      continue;
    }
    let at = node.span.start;
    for (const [i, raw] of node.raw.split("\n").entries()) {
      if (i > 0) {
        line.ended = true;
        lines.push((line = { nodes: [], ended: false }));
      }
      if (raw !== "") line.nodes.push({ kind: "text", raw, span: { ...node.span, start: at, end: at + raw.length } });
      at += raw.length + 1;
    }
  }
  return lines;
}

/**
 * `comment`: only comments and elements without effect; `tags`: only elements and comments, one element if it has lines
 * to itself; `text`: everything else that is not blank.
 */
type LineKind = "blank" | "comment" | "tags" | "text";

function settleLines(lines: readonly Line[], { wrap, ends }: TextRule, roleOf: (element: XmlElement) => LineRole): Piece[] {
  const kinds = lines.map((line, i) => {
    const kind = kindOf(line, roleOf);
    const whole = (i > 0 || ends !== "inline") && (line.ended || ends === "lines");
    const hasLines = line.nodes.some((node) => node.kind === "element" && roleOf(node) === "lines");
    return kind === "tags" && hasLines && !whole ? "text" : kind;
  });
  const indentation = commonIndentation(lines, kinds);
  const first = kinds.findIndex((kind) => kind === "tags" || kind === "text");
  const last = kinds.findLastIndex((kind) => kind === "tags" || kind === "text");

  const pieces: Piece[] = [];
  const pushText = (raw: string, soft: string, span: Span) => void pieces.push({ kind: "raw", raw, soft, span });
  let blanks: Span[] = [];
  let before: LineKind = "tags"; // the last line that was not blank
  let end: Span | undefined; // where the last node ended
  const following = nextOf(kinds, (kind) => kind !== "comment");
  for (const [i, line] of lines.entries()) {
    const kind = kinds[i]!;
    end = endOf(line) ?? end;
    if (kind === "blank") {
      if (i > first && i < last && end) blanks.push(end);
      continue;
    }
    if (before === "text" || kind === "text") for (const blank of blanks) pushText("\n", "\n", blank);
    blanks = [];
    if (kind !== "text") {
      for (const node of line.nodes) if (node.kind !== "text") pieces.push(elementOrComment(node, true));
      if (kind === "tags") before = kind;
      continue;
    }
    before = kind;
    const joined = wrap === "soft" && following[i] === "text";
    let control = false; // whether a control element precedes, in this line
    for (const [j, node] of line.nodes.entries()) {
      if (node.kind === "cdata") pieces.push({ kind: "text", text: node.text, cdata: true, span: node.span });
      else if (node.kind !== "text") pieces.push(elementOrComment(node, false));
      else {
        const [starts, stops] = [j === 0 && i > 0, j === line.nodes.length - 1];
        let raw = starts && node.raw.startsWith(indentation) ? node.raw.slice(indentation.length) : node.raw;
        if ((wrap === "soft" && starts) || control) raw = raw.replace(/^[ \t]+/, "");
        if (joined && stops) raw = raw.replace(/[ \t]+$/, "");
        pushText(raw, raw, node.span);
      }
      if (node.kind !== "comment") control = node.kind === "element" && roleOf(node) === "control";
    }
    const ended = i < last || ends === "lines" || (ends === "written" && line.ended);
    if (ended && end && !endsItself(line)) pushText("\n", joined && i < last ? " " : "\n", end);
  }
  return trimBesideControl(pieces, roleOf);
}

function elementOrComment(node: XmlElement | XmlComment | Extract<XmlNode, { kind: "cdata" }>, alone: boolean): Piece {
  if (node.kind === "element") return { kind: "element", element: node, alone };
  if (node.kind === "comment") return { kind: "comment", comment: node };
  return { kind: "text", text: node.text, cdata: true, span: node.span };
}

function kindOf({ nodes }: Line, roleOf: (element: XmlElement) => LineRole): LineKind {
  let kind: LineKind = "blank";
  let elements = 0;
  let lined = 0;
  for (const node of nodes) {
    if (node.kind === "text") {
      if (!isBlank(node.raw)) return "text";
    } else if (node.kind === "comment" || (node.kind === "element" && roleOf(node) === "nothing"))
      kind = kind === "blank" ? "comment" : kind;
    else if (node.kind === "cdata" || roleOf(node) === "word") return "text";
    else {
      kind = "tags";
      elements++;
      if (roleOf(node) === "lines") lined++;
    }
  }
  return lined > 0 && elements > 1 ? "text" : kind;
}

/** Shared by all lines that begin within the content and have something to indent. */
function commonIndentation(lines: readonly Line[], kinds: readonly LineKind[]): string {
  let common: string | undefined;
  for (const [i, { nodes }] of lines.entries()) {
    if (i === 0 || kinds[i] === "blank" || kinds[i] === "comment") continue;
    const [start] = nodes;
    const own = start?.kind === "text" ? /^[ \t]*/.exec(start.raw)![0] : "";
    common = common === undefined ? own : sharedStart(common, own);
  }
  return common ?? "";
}

function sharedStart(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}

/** A CDATA section that ends its own line needs no other line feed. */
function endsItself({ nodes }: Line): boolean {
  const last = nodes.findLast((node) => node.kind !== "comment" && !(node.kind === "text" && isBlank(node.raw)));
  return last?.kind === "cdata" && last.text.endsWith("\n");
}

function endOf({ nodes }: Line): Span | undefined {
  const node = nodes.at(-1);
  const span = node && (node.kind === "element" ? node.origin : node.span);
  return span && { ...span, start: span.end };
}

/** For each item, the next one after it that counts. */
export function nextOf<Item>(items: readonly Item[], counts: (item: Item) => boolean): (Item | undefined)[] {
  const next: (Item | undefined)[] = [];
  let found: Item | undefined;
  for (let i = items.length - 1; i >= 0; i--) {
    next[i] = found;
    if (counts(items[i]!)) found = items[i];
  }
  return next;
}

/** Removes the source's whitespace, except for references, before and after control text. */
function trimBesideControl(pieces: readonly Piece[], roleOf: (element: XmlElement) => LineRole): Piece[] {
  const isControl = (piece: Piece | undefined) => piece?.kind === "element" && roleOf(piece.element) === "control";
  const counts = (piece: Piece) => piece.kind !== "comment" && !(piece.kind === "raw" && isBlank(piece.raw));
  const next = nextOf(pieces, counts);
  const before = nextOf(pieces.toReversed(), counts).reverse();
  return pieces.map((piece, i) => {
    if (piece.kind !== "raw") return piece;
    const start = isControl(before[i]) ? /^\n*/.exec(piece.raw)![0].length : 0;
    const end = isControl(next[i]) ? Math.max(start, piece.raw.replace(/[ \t\n]+$/, "").length) : piece.raw.length;
    return { ...piece, raw: piece.raw.slice(start, end), soft: piece.soft.slice(start, end) };
  });
}

/** Adjacent texts are merged, except that CDATA sections stay separate. */
function mergeTexts(pieces: readonly Piece[]): Settled[] {
  const merged: Settled[] = [];
  for (const piece of pieces) {
    if (piece.kind !== "text" && piece.kind !== "raw") {
      merged.push(piece);
      continue;
    }
    const [text, written] = piece.kind === "text" ? [piece.text, piece.text] : [decodeEntities(piece.soft), decodeEntities(piece.raw)];
    if (text === "" && written === "") continue;
    const cdata = piece.kind === "text" ? ({ cdata: true } as const) : {};
    const previous = merged.at(-1);
    if (previous?.kind === "text" && previous.cdata === ("cdata" in cdata || undefined)) {
      const both = (previous.written ?? previous.text) + written;
      const joined = previous.text + text;
      merged[merged.length - 1] = {
        kind: "text",
        text: joined,
        ...(both !== joined && { written: both }),
        ...cdata,
        span: { ...previous.span, end: piece.span.end },
      };
    } else merged.push({ kind: "text", text, ...(written !== text && { written }), ...cdata, span: piece.span });
  }
  return merged;
}

export function isBlank(text: string): boolean {
  return /^[ \t\r\n]*$/.test(text);
}
