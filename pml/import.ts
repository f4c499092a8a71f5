import { KvspliceError } from "../plan/index.js";
import { type Diagnostic, diagnosticList, hasErrors, renderDiagnostics } from "./diagnostic.js";
import { formatPml } from "./format.js";
import { parseMarkup } from "./parse.js";
import { attributeSpans, type Span, sourceText } from "./source.js";
import type { Comment, SchemaNode } from "./tree.js";
import { parseXml, type XmlElement } from "./xml.js";

/** Another program's markup as PML. */
export type Imported = {
  /** PML, formatted. */
  readonly markup: string;
  /** What the author should decide. */
  readonly notes: readonly string[];
};

/**
 * A schema or a prompt of Prompt Cache (Gim et al. 2024) as PML. The elements are the same. Prompt Cache encodes modules
 * in one pass, like `context="all"`; its `scaffold`, which sets what other modules see of a union (by default the first
 * member) or of a parameter, becomes `default` and `placeholder`. Bare `<` and `&` in program text become text.
 * @throws KvspliceError `bad_markup` if the result is not well-formed or breaks a rule of the language
 */
export function importPromptCache(markup: string, file: string): Imported {
  const source = sourceText(file, mendMarks(sourceText(file, markup).text));
  const { diagnostics, report } = diagnosticList();
  const document = parseXml(source, report);
  if (!document) throw unusable(diagnostics);
  const names: { readonly span: Span; readonly name: string }[] = [];
  const visit = (element: XmlElement): void => {
    const { name: span } = attributeSpans(element.origin, "scaffold");
    if (span && element.name === "union") names.push({ span, name: "default" });
    if (span && element.name === "parameter") names.push({ span, name: "placeholder" });
    for (const child of element.children) if (child.kind === "element") visit(child);
  };
  visit(document.root);
  let renamed = "";
  let at = 0;
  for (const { span, name } of names) {
    renamed += source.text.slice(at, span.start) + name;
    at = span.end;
  }
  const parsed = parseMarkup(renamed + source.text.slice(at), { file });
  if (hasErrors(parsed.diagnostics)) throw unusable(parsed.diagnostics);
  if (parsed.prompt) return { markup: formatPml(parsed.prompt), notes: [] };
  if (!parsed.schema) throw unusable(parsed.diagnostics);
  return { markup: formatPml({ ...parsed.schema, context: "all", children: parsed.schema.children.map(withDefaults) }), notes: [] };
}

/** A union without a default shows its first member to others. */
function withDefaults<Node extends SchemaNode | Comment>(node: Node): Node {
  if (node.kind === "union") {
    const first = node.children.find((child) => child.kind === "module");
    return { ...node, ...(node.default === undefined && first && { default: first.name }), children: node.children.map(withDefaults) };
  }
  return node.kind === "module" || node.kind === "message" ? { ...node, children: node.children.map(withDefaults) } : node;
}

const MARKUP = /<!--[\s\S]*?-->|<!\[CDATA\[[\s\S]*?\]\]>|<(?![A-Za-z_/!?])|&(?!(?:#\d+|#x[0-9A-Fa-f]+|amp|lt|gt|quot|apos);)/g;

/** `<` and `&` that begin neither a tag nor a reference, as in program text: lxml refuses them, but authors write them. */
function mendMarks(text: string): string {
  return text.replace(MARKUP, (found) => (found === "<" ? "&lt;" : found === "&" ? "&amp;" : found));
}

function unusable(diagnostics: readonly Diagnostic[]): KvspliceError {
  return new KvspliceError("bad_markup", `This cannot be imported:\n${renderDiagnostics(diagnostics)}`);
}
