import { XMLParser } from "fast-xml-parser";
import { KvspliceError } from "../plan/index.js";
import type { Report } from "./diagnostic.js";
import { decodeEntities } from "./entity.js";
import { MAX_DEPTH } from "./grammar.js";
import type { Origin, SourceText, Span } from "./source.js";
import { declarationLength, scanTags, type Tag } from "./wellformed.js";

/** The tree of XML as it is written, every node with its place. */
export type XmlElement = {
  readonly kind: "element";
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlNode[];
  readonly origin: Origin;
};
export type XmlText = { readonly kind: "text"; readonly text: string; readonly span: Span };
export type XmlComment = { readonly kind: "comment"; readonly text: string; readonly span: Span };
export type XmlNode = XmlElement | XmlText | XmlComment;

export type XmlDocument = { readonly root: XmlElement; readonly preamble: readonly XmlComment[] };

const TEXT = "#text";
const CDATA = "#cdata";
const COMMENT = "#comment";
const ELEMENT = "element";
const METADATA = XMLParser.getMetaDataSymbol() as symbol;

/** A node of fast-xml-parser in document order: one name, whose value is text or child nodes, and its place. */
type ParsedNode = {
  readonly [name: string]: string | readonly ParsedNode[] | undefined;
  readonly [metadata: symbol]: { readonly startIndex?: number; readonly endIndex?: number } | undefined;
};

const parser = () =>
  new XMLParser({
    preserveOrder: true,
    captureMetaData: true,
    // Attributes are read by the scan, which knows their places.
    ignoreAttributes: true,
    textNodeName: TEXT,
    cdataPropName: CDATA,
    commentPropName: COMMENT,
    trimValues: false,
    parseTagValue: false,
    // Entities are decoded here, so that a text's length in the source is known.
    processEntities: false,
    // Names are read by the scan too: the library refuses some that are fine, such as `constructor`.
    transformTagName: (name) => (name.endsWith("/") ? `${ELEMENT}/` : ELEMENT),
    maxNestedTags: MAX_DEPTH + 1,
    jPath: false,
  });

/** The document, or undefined where its tags do not nest; the reasons are reported. */
export function parseXml(source: SourceText, report: Report): XmlDocument | undefined {
  const tags = scanTags(source, report);
  if (!tags) return undefined;
  const nodes = readNodes(parseNodes(source), 0, { source, tags });
  const root = nodes.find((node) => node.kind === "element");
  if (!root) return undefined;
  return { root, preamble: nodes.filter((node) => node.kind === "comment") };
}

/** Throws `KvspliceError` `bad_markup` if the library refuses what the scan has let through. */
function parseNodes({ file, text }: SourceText): readonly ParsedNode[] {
  const declaration = declarationLength(text);
  try {
    return parser().parse(" ".repeat(declaration) + text.slice(declaration)) as readonly ParsedNode[];
  } catch (cause) {
    throw new KvspliceError("bad_markup", `cannot parse ${file}: ${String(cause)}`, { cause });
  }
}

type Context = { readonly source: SourceText; readonly tags: ReadonlyMap<number, Tag> };

/** `at`: where the first node begins. Texts carry no place of their own: they lie between those that do. */
function readNodes(nodes: readonly ParsedNode[], at: number, context: Context): XmlNode[] {
  const { source } = context;
  return nodes.map((node): XmlNode => {
    const start = at;
    const element = node[ELEMENT];
    if (element !== undefined) {
      const { startIndex = at, endIndex = at } = node[METADATA] ?? {};
      at = endIndex;
      return readElement(element as readonly ParsedNode[], startIndex, context);
    }
    const comment = node[COMMENT];
    if (comment !== undefined) {
      const text = textOf(comment);
      at += text.length + "<!---->".length;
      return { kind: "comment", text, span: { source, start, end: at } };
    }
    const cdata = node[CDATA];
    if (cdata !== undefined) {
      const text = textOf(cdata);
      at += text.length + "<![CDATA[]]>".length;
      return { kind: "text", text, span: { source, start, end: at } };
    }
    const raw = String(node[TEXT] ?? "");
    at += raw.length;
    return { kind: "text", text: decodeEntities(raw), span: { source, start, end: at } };
  });
}

function readElement(children: readonly ParsedNode[], start: number, context: Context): XmlElement {
  const { source, tags } = context;
  const tag = tags.get(start);
  if (!tag) throw new KvspliceError("bad_markup", `cannot parse ${source.file}: there is no tag at offset ${start}`);
  const { name, end, attributes } = tag;
  const written = source.text.slice(name.start, name.end);
  return { kind: "element", name: written, attributes, children: readNodes(children, end, context), origin: name };
}

function textOf(nodes: string | readonly ParsedNode[]): string {
  return typeof nodes === "string" ? nodes : nodes.map((node) => String(node[TEXT] ?? "")).join("");
}
