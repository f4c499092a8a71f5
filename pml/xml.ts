import { XMLParser } from "fast-xml-parser";
import { KvspliceError } from "../plan/index.js";
import type { Report } from "./diagnostic.js";
import { decodeEntities } from "./entity.js";
import { MAX_DEPTH } from "./grammar.js";
import { endOfTag, type Origin, type SourceText, type Span } from "./source.js";
import { checkXml, declarationLength } from "./wellformed.js";

/** The tree of XML as written, every node with its place. */
export type XmlElement = {
  readonly kind: "element";
  readonly name: string;
  /** Values with their references decoded, line ends and tabs as written. */
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlNode[];
  readonly origin: Origin;
};
/** As in the source, with references not yet decoded: a character written as a reference is never layout. */
export type XmlText = { readonly kind: "text"; readonly raw: string; readonly span: Span };
export type XmlCdata = { readonly kind: "cdata"; readonly text: string; readonly span: Span };
export type XmlComment = { readonly kind: "comment"; readonly text: string; readonly span: Span };
export type XmlNode = XmlElement | XmlText | XmlCdata | XmlComment;

export type XmlDocument = { readonly root: XmlElement; readonly preamble: readonly XmlComment[] };

const TEXT = "#text";
const CDATA = "#cdata";
const COMMENT = "#comment";
const ATTRIBUTES = ":@";
const METADATA = XMLParser.getMetaDataSymbol() as symbol;

/** Prefix of each name: the library refuses some valid ones, such as `constructor`. */
const NAME_MARK = ".";

/** A node of fast-xml-parser in document order: one name, whose value is text or child nodes, and its place. */
type ParsedNode = {
  readonly [name: string]: string | readonly ParsedNode[] | undefined;
  readonly [metadata: symbol]: { readonly startIndex?: number; readonly endIndex?: number } | undefined;
};

const parser = () =>
  new XMLParser({
    preserveOrder: true,
    captureMetaData: true,
    ignoreAttributes: false,
    attributeNamePrefix: NAME_MARK,
    textNodeName: TEXT,
    cdataPropName: CDATA,
    commentPropName: COMMENT,
    trimValues: false,
    parseTagValue: false,
    parseAttributeValue: false,
    // Entities are decoded here, so that a text's length in the source is known.
    processEntities: false,
    transformTagName: (name) => NAME_MARK + name,
    maxNestedTags: MAX_DEPTH + 1,
    jPath: false,
  });

/** The document, or undefined if its tags do not nest; the reasons are reported. */
export function parseXml(source: SourceText, report: Report): XmlDocument | undefined {
  if (!checkXml(source, report)) return undefined;
  const nodes = readNodes(parseNodes(source), 0, source);
  const root = nodes.find((node) => node.kind === "element");
  if (!root) return undefined;
  return { root, preamble: nodes.filter((node) => node.kind === "comment") };
}

/** Throws `KvspliceError` `bad_markup` if the library refuses what the check accepted. */
function parseNodes({ file, text }: SourceText): readonly ParsedNode[] {
  const declaration = declarationLength(text);
  try {
    return parser().parse(" ".repeat(declaration) + text.slice(declaration)) as readonly ParsedNode[];
  } catch (cause) {
    throw new KvspliceError("bad_markup", `cannot parse ${file}: ${String(cause)}`, { cause });
  }
}

/** `at`: where the first node begins. Texts have no place of their own: they lie between nodes that do. */
function readNodes(nodes: readonly ParsedNode[], at: number, source: SourceText): XmlNode[] {
  return nodes.map((node): XmlNode => {
    const start = at;
    const cdata = node[CDATA];
    const comment = node[COMMENT];
    if (comment !== undefined) {
      const text = textOf(comment);
      at += text.length + "<!---->".length;
      return { kind: "comment", text, span: { source, start, end: at } };
    }
    if (cdata !== undefined) {
      const text = textOf(cdata);
      at += text.length + "<![CDATA[]]>".length;
      return { kind: "cdata", text, span: { source, start, end: at } };
    }
    const raw = node[TEXT];
    if (raw !== undefined) {
      at += String(raw).length;
      return { kind: "text", raw: String(raw), span: { source, start, end: at } };
    }
    const { startIndex = at, endIndex = at } = node[METADATA] ?? {};
    at = endIndex;
    return readElement(node, startIndex, source);
  });
}

function readElement(node: ParsedNode, start: number, source: SourceText): XmlElement {
  const marked = Object.keys(node).find((key) => key !== ATTRIBUTES) ?? "";
  const name = marked.replace(/^\.+/, "");
  const origin = { source, start: start + 1, end: start + 1 + name.length };
  const written = (node[ATTRIBUTES] ?? {}) as Readonly<Record<string, string>>;
  const attributes = new Map(Object.entries(written).map(([key, value]) => [key.slice(NAME_MARK.length), decodeEntities(value)]));
  const children = readNodes(node[marked] as readonly ParsedNode[], endOfTag(origin), source);
  return { kind: "element", name, attributes, children, origin };
}

function textOf(nodes: string | readonly ParsedNode[]): string {
  return typeof nodes === "string" ? nodes : nodes.map((node) => String(node[TEXT] ?? "")).join("");
}
