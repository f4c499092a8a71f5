import type { Prompt, PromptNode, Schema, SchemaNode, Space } from "./tree.js";
import { preserves } from "./whitespace.js";

/** Columns that a line of text may take before it is broken at a space. */
const WIDTH = 100;
const INDENT = "  ";

type Element = Schema | Prompt | Exclude<SchemaNode | PromptNode, { kind: "text" | "comment" | "file" }>;
type Node = Element | Extract<SchemaNode, { kind: "text" | "comment" | "file" }>;

/**
 * Markup of a tree, as the parser would read it again: `parse(format(tree))` is the tree, and formatting twice is
 * formatting once. Elements stand on lines of their own; text is broken at spaces, and left as it is under
 * `xml:space="preserve"`, where elements stay within it. Entities are written where XML needs them, CDATA sections become text.
 */
export function formatPml(tree: Schema | Prompt): string {
  const lines = [...tree.preamble.map(markupOf), ...formatElement(tree, false, 0)];
  return `${lines.join("\n")}\n`;
}

/** Lines of an element, with their indent. */
function formatElement(element: Element, preserve: boolean, depth: number): string[] {
  const indent = INDENT.repeat(depth);
  const children = childrenOf(element);
  const { open, close, empty } = tagsOf(element);
  if (children.length === 0) return [indent + empty];
  if (preserves(spaceOf(element), preserve)) return [indent + formatPreserved(element, depth)];

  const [first, ...rest] = children;
  if (rest.length === 0 && first?.kind === "text") {
    const whole = indent + open + markupOf(first) + close;
    if (whole.length <= WIDTH) return [whole];
  }
  return [indent + open, ...formatContent(children, depth + 1), indent + close];
}

/**
 * An element under `xml:space="preserve"`, without the indent of its first line. Its text is left as it is; lines are
 * begun where blank text is none: among the members of a union, and before a prompt's own words.
 */
function formatPreserved(element: Element, depth: number): string {
  const children = childrenOf(element);
  const { open, close } = tagsOf(element);
  const indent = INDENT.repeat(depth);
  const lines = (nodes: readonly Node[]) => nodes.map((node) => `\n${indent}${INDENT}${preserved(node, depth + 1)}`).join("");
  if (element.kind === "union" || element.kind === "include") return `${open}${lines(children)}\n${indent}${close}`;
  if (element.kind !== "prompt") return open + children.map((child) => preserved(child, depth + 1)).join("") + close;

  const words = children.findIndex(({ kind }) => kind !== "include" && kind !== "comment");
  const start = words === -1 ? children.length : words;
  const own = children.slice(start).map((child) => preserved(child, depth + 1)).join("");
  return `${open}${lines(children.slice(0, start))}${own === "" ? "\n" : ""}${own}${close}`;
}

/** A node among preserved text; one that says `xml:space="default"` has lines of its own within. */
function preserved(node: Node, depth: number): string {
  return isElement(node) ? formatElement(node, true, depth).join("\n").slice(INDENT.length * depth) : markupOf(node);
}

function formatContent(children: readonly Node[], depth: number): string[] {
  const lines: string[] = [];
  let line: Node[] = [];
  const endLine = () => {
    lines.push(...formatLine(line, depth));
    line = [];
  };
  for (const child of children) {
    if (child.kind === "text" || child.kind === "parameter" || child.kind === "comment") line.push(child);
    else if (child.kind !== "file") {
      endLine();
      lines.push(...formatElement(child, false, depth));
    }
  }
  endLine();
  return lines;
}

/** Comments at a line's ends stand alone: whitespace there says nothing. */
function formatLine(line: readonly Node[], depth: number): string[] {
  const indent = INDENT.repeat(depth);
  const start = line.findIndex(({ kind }) => kind !== "comment");
  if (start === -1) return line.map((node) => indent + markupOf(node));
  const end = line.findLastIndex(({ kind }) => kind !== "comment") + 1;
  const alone = (nodes: readonly Node[]) => nodes.map((node) => indent + markupOf(node));
  return [...alone(line.slice(0, start)), ...wrap(line.slice(start, end), indent), ...alone(line.slice(end))];
}

/** Stands for a space that may not become a line's end, as no text holds it. */
const FIXED_SPACE = "\0";

function wrap(line: readonly Node[], indent: string): string[] {
  const words = line
    .map((node) => (node.kind === "text" ? markupOf(node) : markupOf(node).replaceAll(" ", FIXED_SPACE)))
    .join("")
    .split(" ");
  const lines: string[] = [];
  let current = indent + (words[0] ?? "");
  for (const word of words.slice(1)) {
    if (current.length + 1 + word.length > WIDTH) {
      lines.push(current);
      current = indent + word;
    } else current += ` ${word}`;
  }
  return [...lines, current].map((each) => each.replaceAll(FIXED_SPACE, " "));
}

function isElement(node: Node): node is Element {
  return node.kind !== "text" && node.kind !== "comment" && node.kind !== "file";
}

function markupOf(node: Node): string {
  switch (node.kind) {
    case "text":
      return escapeText(node.text);
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

function spaceOf(element: Element): Space | undefined {
  return "space" in element ? element.space : undefined;
}

function tagsOf(element: Element): { readonly open: string; readonly close: string; readonly empty: string } {
  const name = element.kind === "message" ? element.role : element.kind === "include" ? element.name : element.kind;
  const attributes = attributesOf(element).map(([key, value]) => ` ${key}="${escapeValue(value)}"`);
  const start = `<${name}${attributes.join("")}`;
  return { open: `${start}>`, close: `</${name}>`, empty: `${start}/>` };
}

function attributesOf(element: Element): (readonly [name: string, value: string])[] {
  const space = spaceOf(element);
  const spaced = space ? [["xml:space", space] as const] : [];
  switch (element.kind) {
    case "schema":
      return [["name", element.name], ...spaced];
    case "prompt":
      return [["schema", element.schema], ...spaced];
    case "module":
      return [
        ["name", element.name],
        ...(element.src === undefined ? [] : [["src", element.src] as const]),
        ...(element.cache ? [] : [["cache", "false"] as const]),
        ...spaced,
      ];
    case "parameter":
      return [
        ["name", element.name],
        ["length", String(element.length)],
        ...(element.default === undefined ? [] : [["default", element.default] as const]),
      ];
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
      return [];
  }
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("]]>", "]]&gt;").replaceAll("\r", "&#13;");
}

function escapeValue(value: string): string {
  return value
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll('"', "&quot;")
    .replace(/[\t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`);
}
