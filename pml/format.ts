import { preserves } from "./run.js";
import { contentBeside, LINE_END } from "./scope.js";
import type { Prompt, PromptNode, Schema, SchemaNode, Spaced } from "./tree.js";
import { isBlank, nextOf } from "./whitespace.js";

/** Columns within which an element with one line of text is written on one line. */
const WIDTH = 100;
const INDENT = "  ";

/** A line of tags would be layout; an empty section makes it text. */
const TEXT_MARK = "<![CDATA[]]>";

type Element = Schema | Prompt | Exclude<SchemaNode | PromptNode, { kind: "text" | "comment" | "file" }>;
type Node = Element | Extract<SchemaNode, { kind: "text" | "comment" | "file" }>;

/**
 * A tree as markup that parses to the same tree: `parse(format(tree))` is the tree, and formatting twice changes
 * nothing more. Elements that have lines to themselves are indented; text keeps its lines, CDATA its sections. Characters
 * of text that would be taken for layout (whitespace.ts) are written as references.
 */
export function formatPml(tree: Schema | Prompt): string {
  const start = tree.preamble.map((comment) => `${markupOf(comment)}\n`).join("");
  return `${start}${new Formatter().element(tree, { preserve: false, soft: false, depth: 0, prompt: tree.kind === "prompt" }, true)}\n`;
}

/** What applies around an element; `depth` is its opening tag's. */
type Place = { readonly preserve: boolean; readonly soft: boolean; readonly depth: number; readonly prompt: boolean };

/** See `Ends` in whitespace.ts. */
type Ends = "lines" | "bare" | "written" | "inline";

/** A line of content. `text` is text; `tags` is an element with lines to itself; `remark` has no meaning. */
type Line = {
  readonly kind: "text" | "tags" | "remark";
  /** Whitespace that the text begins with. */
  indent: string;
  markup: string;
  /** Whether it contains non-blank text, CDATA or a parameter. */
  solid: boolean;
  /** Whether it contains any text. */
  spaced: boolean;
  elements: number;
  lined: number;
  control: boolean;
  /** Whether its text ends with whitespace, ignoring comments. */
  trails: boolean;
  /** What ends it: the text's line feed, a CDATA section's, or none. */
  end: "line feed" | "cdata" | "none";
  /** Whether a soft wrap turns its line feed into a space. */
  joined: boolean;
};

class Formatter {
  private readonly known = new Map<Element, boolean>();

  /** Without the indentation of its first line and without a line feed at the end. */
  element(element: Element, outer: Place, alone: boolean): string {
    const place = placeWithin(element, outer);
    const { open, close, empty } = tagsOf(element);
    const children = contentOf(element, alone && !place.preserve);
    if (children.length === 0) return empty;
    if (element.kind === "union" || element.kind === "include") return this.members(element, children, place, alone);
    if (place.preserve) return open + this.preserved(element, children, place) + close;
    const ends = endsOf(element, alone, place);
    return (
      open +
      (this.lines(element, children, ends, place) ??
        this.lines(element, children.map(joinWraps), ends, place) ??
        this.oneLine(children, ends, place)) +
      close
    );
  }

  /** Whether an element can have lines to itself: whether its text ends with a line feed. */
  private canBeAlone(element: Element, place: Place): boolean {
    const found = this.known.get(element) ?? this.findAlone(element, place);
    this.known.set(element, found);
    return found;
  }

  private findAlone(element: Element, outer: Place): boolean {
    if (element.kind === "union") return element.children.every((child) => child.kind === "comment" || this.canBeAlone(child, outer));
    const place = placeWithin(element, outer);
    const children = childrenOf(element);
    if (isSourced(element)) return place.preserve || children.some(isLineEnd);
    if (place.preserve || children.length === 0) return true;
    return (
      (this.lines(element, children, "lines", place) ?? this.lines(element, children.map(joinWraps), "lines", place)) !== undefined ||
      endsOnOneLine(children)
    );
  }

  /** Content of a union or of a module's inclusion, where blank text is not text. */
  private members(element: Element, children: readonly Node[], place: Place, alone: boolean): string {
    const { open, close } = tagsOf(element);
    const depth = place.depth + 1;
    const written = children.map((child) => (isElement(child) ? this.element(child, { ...place, depth }, alone) : markupOf(child)));
    const short = open + written.join("") + close;
    if (!alone && short.length <= WIDTH && !short.includes("\n")) return short;
    return open + written.map((each) => newLine(depth) + each).join("") + newLine(place.depth) + close;
  }

  /** Text is left as it is; line breaks are added only where blank text is not text, before a prompt's own words. */
  private preserved(element: Element, children: readonly Node[], place: Place): string {
    const within = { ...place, depth: place.depth + 1 };
    const write = (node: Node) => (isElement(node) ? this.element(node, within, isInclude(node)) : markupOf(node));
    if (element.kind !== "prompt") return children.map(write).join("");
    const words = children.findIndex(({ kind }) => kind !== "include" && kind !== "comment");
    const start = words === -1 ? children.length : words;
    const own = children
      .slice(start)
      .map((node, i) => (i === 0 && node.kind === "text" && isBlank(node.text) ? asReferences(node.text) : write(node)))
      .join("");
    return (
      children
        .slice(0, start)
        .map((node) => newLine(within.depth) + write(node))
        .join("") + (own === "" ? newLine(place.depth) : own)
    );
  }

  /** The content line by line; undefined if part of its text would be read as layout. */
  private lines(element: Element, children: readonly Node[], ends: Ends, place: Place): string | undefined {
    const words = children.find((child) => !isInclude(child) && child.kind !== "comment");
    if (element.kind === "prompt" && words?.kind === "text" && isBlank(words.text)) return undefined;
    const depth = place.depth + 1;
    const lines = this.linesOf(children, ends, { ...place, depth });
    if (!isReadAsWritten(lines, ends, place.soft)) return undefined;
    const [only] = children;
    if (children.length === 1 && only?.kind === "text" && only.cdata) return markupOf(only);
    const [first] = lines;
    const last = lines.at(-1);
    if (!first || !last) return undefined;
    const glued = (ends === "inline" || ends === "written") && last.kind === "text" && last.end === "none";
    for (const line of lines) {
      const within = (glued && line === last) || (ends === "inline" && line === first);
      if (looksLikeTags(line, within)) line.markup += TEXT_MARK;
    }
    const { open, close } = tagsOf(element);
    const whole = first.indent + first.markup;
    const keepsEnd = ends === "written" && last.end === "line feed";
    const fits = INDENT.length * place.depth + open.length + whole.length + close.length <= WIDTH;
    if (lines.length === 1 && first.kind === "text" && first.end !== "cdata" && !keepsEnd && fits && !whole.includes("\n")) return whole;

    const counted = lines.slice(ends === "inline" ? 1 : 0).filter((line) => line.kind !== "remark" && !isEmpty(line));
    const [outermost] = counted;
    if (outermost && counted.every(({ kind, indent }) => kind === "text" && indent !== "" && indent[0] === outermost.indent[0])) {
      if (place.soft) return undefined;
      outermost.markup = asReferences(outermost.indent) + outermost.markup;
      outermost.indent = "";
    }
    const written = lines.map((line, i) => {
      const start = i > 0 || ends !== "inline" ? newLine(depth) : "";
      return isEmpty(line) ? "\n" : start + line.indent + line.markup;
    });
    return written.join("") + (glued ? "" : newLine(place.depth));
  }

  private linesOf(children: readonly Node[], ends: Ends, place: Place): Line[] {
    const lines: Line[] = [];
    const begin = (kind: Line["kind"]): Line => {
      const line: Line = {
        kind,
        indent: "",
        markup: "",
        solid: false,
        spaced: false,
        elements: 0,
        lined: 0,
        control: false,
        trails: false,
        end: "none",
        joined: false,
      };
      lines.push(line);
      return line;
    };
    let open = ends === "inline" ? begin("text") : undefined;
    for (const node of children) {
      switch (node.kind) {
        case "text": {
          if (node.cdata) {
            open ??= begin("text");
            open.solid = true;
            open.trails = false;
            open.markup += markupOf(node);
            if (!node.text.endsWith("\n")) break;
            open.end = "cdata";
            open = undefined;
            break;
          }
          let at = -1; // position of the line feed before the part
          for (const [i, part] of (node.written ?? node.text).split("\n").entries()) {
            if (i > 0) {
              open ??= begin("text");
              open.end = "line feed";
              open.joined = node.text[at] === " ";
              open = undefined;
            }
            at += part.length + 1;
            if (part === "") continue;
            const started = open !== undefined && (open.markup !== "" || (ends === "inline" && lines.length === 1));
            open ??= begin("text");
            const indent = started ? "" : /^[ \t]*/.exec(part)![0];
            open.indent += indent;
            open.markup += escapeText(part.slice(indent.length));
            open.solid ||= /[^ \t]/.test(part);
            open.spaced = true;
            open.trails = /[ \t]$/.test(part);
          }
          break;
        }
        case "parameter":
          open ??= begin("text");
          open.markup += markupOf(node);
          open.solid = true;
          open.trails = false;
          break;
        case "file":
          break;
        case "module":
        case "union":
          if (!open && this.canBeAlone(node, place)) begin("tags").markup = this.element(node, place, true);
          else {
            open ??= begin("text");
            open.markup += this.element(node, place, false);
            open.trails = false;
            open.elements++;
            open.lined++;
          }
          break;
        default:
          if (saysNothing(node, place))
            (open ?? begin("remark")).markup += isElement(node) ? this.element(node, place, false) : markupOf(node);
          else if (isControl(node)) {
            const line = begin("tags");
            line.control = true;
            line.markup = this.element(node, place, true);
            open = undefined;
          } else if (isElement(node)) {
            if (open) {
              open.elements++;
              open.trails = false;
            }
            (open ?? begin("tags")).markup += this.element(node, place, false);
          }
      }
    }
    return lines;
  }

  /** The content without lines to itself: nothing in it can be layout. */
  private oneLine(children: readonly Node[], ends: Ends, place: Place): string {
    const within = { ...place, depth: place.depth + 1 };
    let isText = false;
    const written = children.map((node, i) => {
      isText ||= node.kind === "parameter";
      if (isElement(node)) return this.element(node, within, isControl(node));
      if (node.kind !== "text" || node.cdata) {
        isText ||= node.kind === "text";
        return markupOf(node);
      }
      const text = ends === "lines" && i === children.length - 1 ? node.text.slice(0, -1) : node.text;
      isText ||= text !== "";
      const [, start = "", inner = "", end = ""] = /^([ \t\n]*)(.*?)([ \t\n]*)$/s.exec(text)!;
      return asReferences(start) + escapeText(inner).replaceAll("\n", "&#10;") + asReferences(end);
    });
    return (isText ? "" : TEXT_MARK) + written.join("");
  }
}

/** Whether the parser would read these lines back as they are. */
function isReadAsWritten(lines: readonly Line[], ends: Ends, soft: boolean): boolean {
  const says = (line: Line) => line.kind !== "remark" && !isEmpty(line);
  const last = lines.findLast(says);
  if (last?.kind === "text" && (ends === "lines" ? last.end === "none" : ends !== "written" && last.end === "line feed")) return false;
  const before = nextOf(lines.toReversed(), says).reverse();
  const next = nextOf(lines, says);
  const near = nextOf(lines, (line) => !isEmpty(line));
  const unbroken = nextOf(lines, ({ kind }) => kind !== "remark");
  return lines.every((line, i) => {
    if (isEmpty(line)) {
      const [above, below] = [before[i], next[i]];
      return (
        !line.joined &&
        above !== undefined &&
        below !== undefined &&
        !above.control &&
        !below.control &&
        (above.kind === "text" || near[i]?.kind === "text")
      );
    }
    if (line.kind !== "text") return true;
    if (!line.solid && line.elements === 0) return false;
    if (next[i]?.control && (line.end === "line feed" || line.trails)) return false;
    const joined = next[i]?.kind === "text" && unbroken[i] === next[i];
    return !soft || (line.indent === "" && (line.end !== "line feed" || line.joined === joined));
  });
}

function isEmpty({ kind, indent, markup }: Line): boolean {
  return kind === "text" && indent + markup === "";
}

/** A text with its soft wraps joined. */
function joinWraps(node: Node): Node {
  if (node.kind !== "text") return node;
  const { written: _, ...text } = node;
  return text;
}

/** Whether content without lines to itself ends with a line feed that its element's place can express. */
function endsOnOneLine(children: readonly Node[]): boolean {
  const last = children.at(-1);
  if (last?.kind !== "text" || last.cdata || !last.text.endsWith("\n")) return false;
  const before = children.slice(0, -1).findLast(({ kind }) => kind !== "comment");
  return last.text !== "\n" || before === undefined || !(isControl(before) || (before.kind === "text" && before.text.endsWith("\n")));
}

/** @param within whether the line is the rest of another, or continues after the element */
function looksLikeTags({ kind, solid, elements, lined, spaced, end }: Line, within: boolean): boolean {
  if (kind !== "text" || solid || elements === 0 || (lined > 0 && elements > 1)) return false;
  return lined > 0 ? !within : spaced || end !== "none";
}

function placeWithin(element: Element, { preserve, soft, ...rest }: Place): Place {
  const { space, wrap } = spacedOf(element);
  return { preserve: preserves(space, preserve), soft: wrap === undefined ? soft : wrap === "soft", ...rest };
}

function endsOf(element: Element, alone: boolean, { prompt }: Place): Ends {
  if (element.kind === "module") return alone ? "lines" : "inline";
  if (element.kind === "schema" || (element.kind === "message" && element.open && !prompt)) return "written";
  return "bare";
}

/** @param ended whether the element's place implies that its text ends with a line feed */
function contentOf(element: Element, ended: boolean): readonly Node[] {
  const children = childrenOf(element);
  return ended && isSourced(element) ? children.filter((child) => !isLineEnd(child)) : children;
}

/** Whether its text comes from a file. */
function isSourced(element: Element): boolean {
  return element.kind === "module" && element.src !== undefined && contentBeside(element).length === 0;
}

function isLineEnd(node: Node | undefined): boolean {
  return node?.kind === "text" && node.text === LINE_END;
}

function saysNothing({ kind }: Node, { prompt }: Place): boolean {
  return kind === "comment" || kind === "scaffold" || kind === "variable" || kind === "file" || (kind === "document" && !prompt);
}

/** Text before or after it does not continue past it. */
function isControl(node: Node): node is Extract<Node, { kind: "message" | "include" }> {
  return node.kind === "message" || node.kind === "include";
}

function isInclude({ kind }: Node): boolean {
  return kind === "include";
}

function newLine(depth: number): string {
  return `\n${INDENT.repeat(depth)}`;
}

function asReferences(whitespace: string): string {
  return whitespace.replace(/[ \t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function isElement(node: Node): node is Element {
  return node.kind !== "text" && node.kind !== "comment" && node.kind !== "file";
}

function markupOf(node: Node): string {
  switch (node.kind) {
    case "text":
      return node.cdata ? `<![CDATA[${node.text.replaceAll("]]>", "]]]]><![CDATA[>")}]]>` : escapeText(node.text);
    case "comment":
      return `<!--${node.text}-->`;
    case "file":
      return "";
    default:
      return tagsOf(node).empty;
  }
}

function childrenOf(element: Element): readonly Node[] {
  const children: readonly Node[] = "children" in element ? element.children : [];
  return children.filter(({ kind }) => kind !== "file");
}

function spacedOf(element: Element): Spaced {
  return "space" in element || "wrap" in element ? element : {};
}

function tagsOf(element: Element): { readonly open: string; readonly close: string; readonly empty: string } {
  const name = element.kind === "message" ? element.role : element.kind === "include" ? element.name : element.kind;
  const attributes = attributesOf(element).map(([key, value]) => ` ${key}="${escapeValue(value)}"`);
  const start = `<${name}${attributes.join("")}`;
  return { open: `${start}>`, close: `</${name}>`, empty: `${start}/>` };
}

function attributesOf(element: Element): (readonly [name: string, value: string])[] {
  const { space, wrap } = spacedOf(element);
  const spaced = [...(space ? [["xml:space", space] as const] : []), ...(wrap ? [["wrap", wrap] as const] : [])];
  switch (element.kind) {
    case "schema":
      return [["name", element.name], ...given({ context: element.context }), ...spaced];
    case "prompt":
      return [["schema", element.schema], ...Object.entries(element.values), ...spaced];
    case "module":
      return [
        ["name", element.name],
        ...given({
          src: element.src,
          cache: element.cache ? undefined : "false",
          context: element.context,
          repeat: element.repeat,
          if: element.if,
          priority: element.priority,
        }),
        ...spaced,
      ];
    case "parameter":
      return [
        [element.variable ? "variable" : "name", element.name],
        ["length", String(element.length)],
        ...given({
          type: element.type === "text" ? undefined : element.type,
          default: element.default,
          placeholder: element.placeholder,
          overflow: element.overflow === "error" ? undefined : element.overflow,
        }),
      ];
    case "variable":
      return [["name", element.name], ...given({ type: element.type === "text" ? undefined : element.type, default: element.default })];
    case "message":
      return [...(element.open ? [["open", "true"] as const] : []), ...spaced];
    case "scaffold":
      return [
        ["name", element.name],
        ["modules", element.modules.join(" ")],
      ];
    case "import":
      return [["schema", element.schema]];
    case "document":
      return [["ref", element.ref]];
    case "include":
      return Object.entries(element.arguments);
    case "union":
      return given({ default: element.default });
  }
}

/** The attributes that have a value. */
function given(attributes: Readonly<Record<string, string | number | undefined>>): (readonly [name: string, value: string])[] {
  return Object.entries(attributes).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)] as const]));
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("]]>", "]]&gt;").replaceAll("\r", "&#13;");
}

function escapeValue(value: string): string {
  return value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;").replaceAll("\r", "&#13;");
}
