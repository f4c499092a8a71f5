import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import {
  type AttributeKind,
  type ElementName,
  type ElementRule,
  MAX_PARAMETER_LENGTH,
  PROMPT_GRAMMAR,
  SCHEMA_GRAMMAR,
} from "./grammar.js";
import { attributeSpans, type SourceText, type Span, sourceText } from "./source.js";
import { didYouMean } from "./suggest.js";
import type {
  Comment,
  DocumentSlot,
  Include,
  Message,
  Module,
  Parameter,
  Prompt,
  PromptMessage,
  PromptNode,
  Role,
  Schema,
  SchemaNode,
  Space,
  Text,
} from "./tree.js";
import { isBlank, normalisePrompt, normaliseText, preserves } from "./whitespace.js";
import { parseXml, type XmlComment, type XmlElement, type XmlNode } from "./xml.js";

/** Bytes of one file: a schema of 10,000 modules takes about one million. Beyond this, a parser's memory is at stake. */
export const MAX_FILE_BYTES = 16 * 1024 * 1024;

export type ParseOptions = {
  /** What diagnostics call the text; `(text)` when left out. */
  readonly file?: string;
};

export type ParsedSchema = { readonly schema?: Schema; readonly diagnostics: readonly Diagnostic[] };
export type ParsedPrompt = { readonly prompt?: Prompt; readonly diagnostics: readonly Diagnostic[] };

/**
 * A schema's tree as it is written: imports and `src` still to be resolved (resolve.ts), names still to be checked
 * (check.ts). Never throws; without `schema`, `diagnostics` has the errors.
 */
export function parseSchema(markup: string | Uint8Array, { file = "(text)" }: ParseOptions = {}): ParsedSchema {
  const { diagnostics, report } = diagnosticList();
  const root = parseRoot(markup, file, "schema", report);
  return root ? { schema: readSchema(root, report), diagnostics } : { diagnostics };
}

/** A prompt's tree as it is written; whether its modules exist is for check-prompt.ts. Never throws. */
export function parsePrompt(markup: string | Uint8Array, { file = "(text)" }: ParseOptions = {}): ParsedPrompt {
  const { diagnostics, report } = diagnosticList();
  const root = parseRoot(markup, file, "prompt", report);
  return root ? { prompt: readPrompt(root, report), diagnostics } : { diagnostics };
}

type Root = { readonly element: XmlElement; readonly preamble: readonly Comment[] };

function parseRoot(markup: string | Uint8Array, file: string, name: "schema" | "prompt", report: Report): Root | undefined {
  const source = readSource(markup, file, report);
  const document = source && parseXml(source, report);
  if (!document) return undefined;
  const { root: element, preamble } = document;
  if (element.name !== name) {
    report("wrong-root", `the file's element is \`<${element.name}>\`; a ${name} begins with \`<${name}>\``, element.origin);
    return undefined;
  }
  return { element, preamble: preamble.map(readComment) };
}

/** Text of a file's bytes; undefined, with a diagnostic, when it is too large or not UTF-8. */
export function readSource(markup: string | Uint8Array, file: string, report: Report): SourceText | undefined {
  const start = (): Span => ({ source: sourceText(file, ""), start: 0, end: 0 });
  if (markup.length > MAX_FILE_BYTES) {
    report("too-large", `the file has ${markup.length} bytes; ${MAX_FILE_BYTES} may be read, so split it and import the parts`, start());
    return undefined;
  }
  if (typeof markup === "string") return sourceText(file, markup);
  try {
    return sourceText(file, new TextDecoder("utf-8", { fatal: true }).decode(markup));
  } catch {
    report("bad-encoding", "the file is not UTF-8; save it as UTF-8", start());
    return undefined;
  }
}

function readSchema({ element, preamble }: Root, report: Report): Schema {
  checkAttributes(element, ruleOf(SCHEMA_GRAMMAR, "schema"), report);
  return {
    kind: "schema",
    name: textOf(element, "name"),
    ...spaceOf(element),
    children: readContent(element, preserves(spaceOf(element).space, false), report),
    preamble,
    origin: element.origin,
  };
}

function readContent(element: XmlElement, preserve: boolean, report: Report): SchemaNode[] {
  const rule = ruleOf(SCHEMA_GRAMMAR, element.name);
  const nodes: SchemaNode[] = [];
  for (const child of element.children) {
    if (child.kind === "comment") nodes.push(readComment(child));
    else if (child.kind === "text") {
      if (rule.text) nodes.push({ kind: "text", text: child.text, origin: child.span });
      else reportText(child, element, report);
    } else if (isKnown(SCHEMA_GRAMMAR, child, element, report)) {
      nodes.push(readSchemaElement(child, preserve, report));
    }
  }
  return rule.text ? normaliseText<SchemaNode>(nodes, preserve) : nodes;
}

function readSchemaElement(element: XmlElement, preserve: boolean, report: Report): SchemaNode {
  const { name, origin } = element;
  checkAttributes(element, ruleOf(SCHEMA_GRAMMAR, name), report);
  const space = spaceOf(element);
  const content = () => readContent(element, preserves(space.space, preserve), report);
  switch (name as Exclude<ElementName, "schema" | "prompt">) {
    case "module": {
      const src = element.attributes.get("src");
      return {
        kind: "module",
        name: textOf(element, "name"),
        ...(src === undefined ? {} : { src }),
        cache: flagOf(element, "cache", true),
        ...space,
        children: content(),
        origin,
      };
    }
    case "union":
      return { kind: "union", children: content() as (Module | Comment)[], origin };
    case "parameter": {
      content();
      const value = element.attributes.get("default");
      return {
        kind: "parameter",
        name: textOf(element, "name"),
        length: lengthOf(element, "length"),
        ...(value === undefined ? {} : { default: value }),
        origin,
      } satisfies Parameter;
    }
    case "scaffold":
      content();
      return {
        kind: "scaffold",
        name: textOf(element, "name"),
        modules: textOf(element, "modules").split(/[ \t\r\n]+/).filter((path) => path !== ""),
        origin,
      };
    case "import":
      content();
      return { kind: "import", schema: textOf(element, "schema"), origin };
    case "document":
      content();
      return readDocument(element);
    case "system":
    case "user":
    case "assistant":
      return readMessage<SchemaNode>(element, content());
  }
}

function readPrompt({ element, preamble }: Root, report: Report): Prompt {
  checkAttributes(element, ruleOf(PROMPT_GRAMMAR, "prompt"), report);
  const space = spaceOf(element);
  const preserve = preserves(space.space, false);
  const nodes: PromptNode[] = [];
  for (const child of element.children) {
    if (child.kind === "comment") nodes.push(readComment(child));
    else if (child.kind === "text") {
      nodes.push({ kind: "text", text: child.text, origin: child.span });
    } else if (Object.hasOwn(PROMPT_GRAMMAR, child.name)) {
      if (isKnown(PROMPT_GRAMMAR, child, element, report)) nodes.push(readPromptElement(child, preserve, report));
    } else nodes.push(readInclude(child, report));
  }
  return {
    kind: "prompt",
    schema: textOf(element, "schema"),
    ...space,
    children: normalisePrompt(nodes, preserve),
    preamble,
    origin: element.origin,
  };
}

function readPromptElement(element: XmlElement, preserve: boolean, report: Report): PromptMessage | DocumentSlot {
  const rule = ruleOf(PROMPT_GRAMMAR, element.name);
  checkAttributes(element, rule, report);
  const preserveWithin = preserves(spaceOf(element).space, preserve);
  const nodes: (Text | Comment | DocumentSlot)[] = [];
  for (const child of element.children) {
    if (child.kind === "comment") nodes.push(readComment(child));
    else if (child.kind === "text") {
      if (rule.text) nodes.push({ kind: "text", text: child.text, origin: child.span });
      else reportText(child, element, report);
    } else if (isKnown(PROMPT_GRAMMAR, child, element, report)) {
      nodes.push(readPromptElement(child, preserveWithin, report) as DocumentSlot);
    }
  }
  if (element.name === "document") return readDocument(element);
  return readMessage(element, normaliseText<Text | Comment | DocumentSlot>(nodes, preserveWithin));
}

function readInclude(element: XmlElement, report: Report): Include {
  const children: (Include | Comment)[] = [];
  for (const child of element.children) {
    if (child.kind === "comment") children.push(readComment(child));
    else if (child.kind === "text") reportText(child, element, report);
    else if (Object.hasOwn(PROMPT_GRAMMAR, child.name)) reportMisplaced(child, element, "stands in the prompt itself", report);
    else children.push(readInclude(child, report));
  }
  return {
    kind: "include",
    name: element.name,
    arguments: Object.fromEntries(element.attributes),
    children,
    origin: element.origin,
  };
}

function readDocument(element: XmlElement): DocumentSlot {
  return { kind: "document", ref: textOf(element, "ref"), origin: element.origin };
}

function readMessage<Child>(element: XmlElement, children: readonly Child[]): Message<Child> {
  const { name, origin } = element;
  const open = flagOf(element, "open", false);
  return { kind: "message", role: name as Role, open, ...spaceOf(element), children, origin };
}

function readComment({ text, span }: XmlComment): Comment {
  return { kind: "comment", text, origin: span };
}

type Grammar = Readonly<Partial<Record<ElementName, ElementRule>>>;

function ruleOf(grammar: Grammar, name: string): ElementRule {
  return grammar[name as ElementName] as ElementRule;
}

/** Whether the element may stand in its parent; reported when not. */
function isKnown(grammar: Grammar, element: XmlElement, parent: XmlElement, report: Report): boolean {
  const { children } = ruleOf(grammar, parent.name);
  if (children.includes(element.name as ElementName)) return true;
  if (Object.hasOwn(grammar, element.name)) {
    const parents = Object.keys(grammar).filter((name) => ruleOf(grammar, name).children.includes(element.name as ElementName));
    const places = parents.length === 0 ? "is the file's one outermost element" : `stands in ${list(parents)}`;
    reportMisplaced(element, parent, places, report);
  } else {
    const known = didYouMean(element.name, children) || (children.length > 0 ? `; it holds ${list(children)}` : "; it holds no elements");
    report("unknown-element", `no element \`<${element.name}>\` in \`<${parent.name}>\`${known}`, element.origin);
  }
  return false;
}

function reportMisplaced(element: XmlElement, parent: XmlElement, places: string, report: Report): void {
  report("misplaced-element", `\`<${element.name}>\` may not stand in \`<${parent.name}>\`: it ${places}`, element.origin);
}

function reportText(child: Extract<XmlNode, { kind: "text" }>, parent: XmlElement, report: Report): void {
  if (isBlank(child.text)) return;
  const { source, start, end } = child.span;
  const raw = source.text.slice(start, end);
  const from = start + raw.search(/\S/);
  report("misplaced-text", `\`<${parent.name}>\` holds no text`, { source, start: from, end: start + raw.trimEnd().length });
}

function list(names: readonly string[]): string {
  return names.map((name) => `\`<${name}>\``).join(", ");
}

/** Reports what is wrong with an element's attributes; reading goes on with values that are right. */
function checkAttributes({ name: elementName, attributes, origin }: XmlElement, rule: ElementRule, report: Report): void {
  for (const [name, value] of attributes) {
    const known = Object.hasOwn(rule.attributes, name) ? rule.attributes[name] : undefined;
    if (known) {
      const wanted = wantedValue(known.kind, value);
      if (wanted) report("bad-value", `\`${name}\` is \`${value}\`; it takes ${wanted}`, () => attributeSpans(origin, name).value);
    } else {
      const message = () => {
        const names = Object.keys(rule.attributes);
        const has = names.length > 0 ? `; it has ${names.map((each) => `\`${each}\``).join(", ")}` : "; it has none";
        return `no attribute \`${name}\` in \`<${elementName}>\`${didYouMean(name, names) || has}`;
      };
      report("unknown-attribute", message, () => attributeSpans(origin, name).name);
    }
  }
  for (const name in rule.attributes) {
    if (rule.attributes[name]?.required && !attributes.has(name)) {
      report("missing-attribute", `\`<${elementName}>\` needs the attribute \`${name}\``, origin);
    }
  }
}

function flagOf({ attributes }: XmlElement, name: string, otherwise: boolean): boolean {
  const value = attributes.get(name);
  return value === "true" || (value !== "false" && otherwise);
}

function textOf({ attributes }: XmlElement, name: string): string {
  return attributes.get(name) ?? "";
}

/** 1 in place of a length that is wrong. */
function lengthOf({ attributes }: XmlElement, name: string): number {
  const value = attributes.get(name) ?? "";
  return wantedValue("length", value) ? 1 : Number(value);
}

function spaceOf({ attributes }: XmlElement): { readonly space?: Space } {
  const space = attributes.get("xml:space");
  return space === "preserve" || space === "default" ? { space } : {};
}

/** What the value should have been, or undefined when it is right. */
function wantedValue(kind: AttributeKind, value: string): string | undefined {
  switch (kind) {
    case "boolean":
      return value === "true" || value === "false" ? undefined : "`true` or `false`";
    case "space":
      return value === "preserve" || value === "default" ? undefined : "`preserve` or `default`";
    case "length":
      return /^[1-9]\d*$/.test(value) && Number(value) <= MAX_PARAMETER_LENGTH
        ? undefined
        : `a number of tokens from 1 to ${MAX_PARAMETER_LENGTH}`;
    case "name":
    case "text":
      return undefined;
  }
}
