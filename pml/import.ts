import { parse as parseTemplate, tokenize } from "@huggingface/jinja";
import { KvspliceError } from "../plan/index.js";
import { module, parameter, schema, user } from "./builder.js";
import { type Diagnostic, diagnosticList, hasErrors, renderDiagnostics } from "./diagnostic.js";
import { formatPml } from "./format.js";
import { parseMarkup } from "./parse.js";
import { attributeSpans, placeOf, sourceText } from "./source.js";
import type { SchemaNode } from "./tree.js";
import { parseXml, type XmlElement } from "./xml.js";

export type Imported = {
  /** PML, formatted. */
  readonly markup: string;
  /** What of the source PML says otherwise, or not at all, with its line. */
  readonly notes: readonly { readonly line?: number; readonly message: string }[];
};

/**
 * A schema or a prompt of Prompt Cache (Gim et al. 2024) as PML. Its elements are PML's; `scaffold` on unions and
 * parameters, which says what other modules see of them while they are encoded, has nothing to say where modules are
 * encoded apart. Bare `<` and `&` of program text become text.
 * @throws KvspliceError `bad_markup` for what is not markup after that, and for what breaks a rule of the language
 */
export function importPromptCache(markup: string, file: string): Imported {
  const source = sourceText(file, mendMarks(sourceText(file, markup).text));
  const { diagnostics, report } = diagnosticList();
  const document = parseXml(source, report);
  if (!document) throw unusable(diagnostics);
  const cuts: { readonly start: number; readonly end: number }[] = [];
  const notes: { readonly line: number; readonly message: string }[] = [];
  const visit = (element: XmlElement): void => {
    const value = element.attributes.get("scaffold");
    const spans = attributeSpans(element.origin, "scaffold");
    if (value !== undefined && spans.name && spans.value && (element.name === "union" || element.name === "parameter")) {
      cuts.push({ start: spans.name.start, end: spans.value.end + 1 });
      const what = element.name === "union" ? `the member \`${value}\` of a union` : `the text \`${value}\` in a parameter's place`;
      notes.push({
        line: placeOf(spans.name).line,
        message: `other modules do not see ${what}: modules are encoded apart here (a <scaffold> of modules encodes them together)`,
      });
    }
    for (const child of element.children) if (child.kind === "element") visit(child);
  };
  visit(document.root);
  let kept = "";
  let at = 0;
  for (const { start, end } of cuts.sort((a, b) => a.start - b.start)) {
    kept += source.text.slice(at, start).trimEnd();
    at = end;
  }
  const parsed = parseMarkup(kept + source.text.slice(at), { file });
  const tree = parsed.schema ?? parsed.prompt;
  if (!tree || hasErrors(parsed.diagnostics)) throw unusable(parsed.diagnostics);
  return { markup: formatPml(tree), notes };
}

const MARKUP = /<!--[\s\S]*?-->|<!\[CDATA\[[\s\S]*?\]\]>|<(?![A-Za-z_/!?])|&(?!(?:#\d+|#x[0-9A-Fa-f]+|amp|lt|gt|quot|apos);)/g;

/** Marks that begin neither a tag nor a reference, as they stand in programs: lxml refuses them, and authors write them. */
function mendMarks(text: string): string {
  return text.replace(MARKUP, (found) => (found === "<" ? "&lt;" : found === "&" ? "&amp;" : found));
}

function unusable(diagnostics: readonly Diagnostic[]): KvspliceError {
  return new KvspliceError("bad_markup", `This cannot be imported:\n${renderDiagnostics(diagnostics)}`);
}

/** Tokens that a variable of a template may take. */
const VARIABLE_LENGTH = 64;

/**
 * A Jinja template of text and variables as a schema: one module whose parameters are the variables, in a message that
 * stays open for the prompt's own text.
 * @throws KvspliceError `bad_markup` for what is not static: statements, filters, and what is computed
 */
export function importJinja(template: string, name: string): Imported {
  let body: readonly unknown[];
  try {
    body = parseTemplate(tokenize(template)).body;
  } catch (cause) {
    throw new KvspliceError("bad_markup", `This is not a Jinja template: ${(cause as Error).message}`, { cause });
  }
  const variables = new Set<string>();
  const children = body.flatMap((node): (string | SchemaNode)[] => {
    const { type, value } = node as { readonly type: string; readonly value?: unknown };
    if (type === "Comment") return [];
    if (type === "StringLiteral") return [String(value)];
    if (type !== "Identifier") {
      throw new KvspliceError(
        "bad_markup",
        `The template has a ${type}, and only text and variables ({{ name }}) are static. Make modules of its branches, and name in each prompt those that it takes.`,
      );
    }
    const variable = String(value);
    if (variables.has(variable)) {
      throw new KvspliceError(
        "bad_markup",
        `The template has {{ ${variable} }} twice, and a parameter has one place. Give the second another name.`,
      );
    }
    variables.add(variable);
    return [parameter(variable, { length: VARIABLE_LENGTH })];
  });
  const tree = schema(name, user({ open: true }, module("template", ...children)));
  const notes = [...variables].map((variable) => ({
    message: `the parameter \`${variable}\` reserves ${VARIABLE_LENGTH} tokens; say how many it needs`,
  }));
  return { markup: formatPml(tree), notes };
}
