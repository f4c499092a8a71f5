import { XMLParser } from "fast-xml-parser";

/** An element in fast-xml-parser's ordered form: its name with its children, and its attributes under ":@". */
export type XmlNode = { readonly [name: string]: unknown };

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: "",
  trimValues: false,
  processEntities: true,
  parseTagValue: false,
});

export function parseXml(text: string): XmlNode[] {
  return parser.parse(text) as XmlNode[];
}

export function nameOf(node: XmlNode): string {
  return Object.keys(node).find((name) => name !== ":@")!;
}

export function childrenOf(node: XmlNode): readonly XmlNode[] {
  const children = node[nameOf(node)];
  return Array.isArray(children) ? (children as XmlNode[]) : [];
}

export function attributeOf(node: XmlNode, name: string): string | undefined {
  return (node[":@"] as Readonly<Record<string, string>> | undefined)?.[name];
}

/** All elements with this name below these, in document order. */
export function* elements(nodes: readonly XmlNode[], name: string): Iterable<XmlNode> {
  for (const node of nodes) {
    if (nameOf(node) === name) yield node;
    yield* elements(childrenOf(node), name);
  }
}

export function textOf(node: XmlNode): string {
  if ("#text" in node) return String(node["#text"]);
  return childrenOf(node).map(textOf).join("");
}
