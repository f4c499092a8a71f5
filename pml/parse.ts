import { conditionOf } from "./condition.js";
import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import {
  type AttributeKind,
  type ElementName,
  type ElementRule,
  MAX_PARAMETER_LENGTH,
  MAX_REPEAT,
  PROMPT_GRAMMAR,
  SCHEMA_GRAMMAR,
} from "./grammar.js";
import { LINE_END } from "./scope.js";
import { attributeSpans, type SourceText, type Span, sourceText } from "./source.js";
import { didYouMean } from "./suggest.js";
import type {
  Comment,
  Context,
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
  Spaced,
  Text,
} from "./tree.js";
import { CONTEXTS, OVERFLOWS, PARAMETER_TYPES, VARIABLE_TYPES } from "./tree.js";
import { type Ends, isBlank, type LineRole, type Settled, settleText, type TextRule } from "./whitespace.js";
import { parseXml, type XmlComment, type XmlElement, type XmlNode } from "./xml.js";

/** Bytes of one file: a schema of 10,000 modules takes about one million. Beyond this, parsing may run out of memory. */
export const MAX_FILE_BYTES = 16 * 1024 * 1024;

/** How a text is named. */
export type ParseOptions = {
  /** What diagnostics call the text; `(text)` by default. */
  readonly file?: string;
};

/** A schema's tree, or the errors that prevented it. */
export type ParsedSchema = { readonly schema?: Schema; readonly diagnostics: readonly Diagnostic[] };
/** A prompt's tree, or the errors that prevented it. */
export type ParsedPrompt = { readonly prompt?: Prompt; readonly diagnostics: readonly Diagnostic[] };

/**
 * A schema's tree as written: imports and `src` are not yet resolved (resolve.ts), names not yet checked
 * (check.ts). Never throws; if `schema` is absent, `diagnostics` has the errors.
 */
export function parseSchema(markup: string | Uint8Array, options: ParseOptions = {}): ParsedSchema {
  const { schema, diagnostics } = parseRoot(markup, options, ["schema"]);
  return schema ? { schema, diagnostics } : { diagnostics };
}

/** A prompt's tree as written; check-prompt.ts checks that its modules exist. Never throws. */
export function parsePrompt(markup: string | Uint8Array, options: ParseOptions = {}): ParsedPrompt {
  const { prompt, diagnostics } = parseRoot(markup, options, ["prompt"]);
  return prompt ? { prompt, diagnostics } : { diagnostics };
}

/** Either kind, recognised by its root element. Never throws. */
export function parseMarkup(markup: string | Uint8Array, options: ParseOptions = {}): ParsedSchema & ParsedPrompt {
  return parseRoot(markup, options, ["schema", "prompt"]);
}

type Root = { readonly element: XmlElement; readonly preamble: readonly Comment[] };

function parseRoot(
  markup: string | Uint8Array,
  { file = "(text)" }: ParseOptions,
  wanted: readonly ("schema" | "prompt")[],
): ParsedSchema & ParsedPrompt {
  const { diagnostics, report } = diagnosticList();
  const source = readSource(markup, file, report);
  const document = source && parseXml(source, report);
  if (!document) return { diagnostics };
  const { root: element, preamble } = document;
  const kind = wanted.find((name) => name === element.name);
  const root = { element, preamble: preamble.map(readComment) };
  if (kind === "schema") return { schema: readSchema(root, report), diagnostics };
  if (kind === "prompt") return { prompt: readPrompt(root, report), diagnostics };
  const begins = wanted.map((name) => `a ${name} begins with \`<${name}>\``).join(", and ");
  report("wrong-root", `the file's root element is \`<${element.name}>\`; ${begins}`, element.origin);
  return { diagnostics };
}

/** Text of a file's bytes; undefined, with a diagnostic, if it is too large or not UTF-8. */
export function readSource(markup: string | Uint8Array, file: string, report: Report): SourceText | undefined {
  const start = (): Span => ({ source: sourceText(file, ""), start: 0, end: 0 });
  if (markup.length > MAX_FILE_BYTES) {
    report(
      "too-large",
      `the file has ${markup.length} bytes; at most ${MAX_FILE_BYTES} are read, so split it and import the parts`,
      start(),
    );
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

/** The part of the text rule that applies around an element's content. */
type Around = Pick<TextRule, "space" | "wrap">;

const OUTERMOST: Around = { space: "default", wrap: "hard" };

function readSchema({ element, preamble }: Root, report: Report): Schema {
  checkAttributes(element, ruleOf(SCHEMA_GRAMMAR, "schema"), report);
  return {
    kind: "schema",
    name: textOf(element, "name"),
    ...contextOf(element),
    ...spacedOf(element),
    children: readContent(element, { ...OUTERMOST, ...spacedOf(element) }, "written", report),
    preamble,
    origin: element.origin,
  };
}

function roleInSchema({ name }: XmlElement): LineRole {
  switch (name) {
    case "parameter":
      return "word";
    case "module":
    case "union":
      return "lines";
    case "system":
    case "user":
    case "assistant":
      return "control";
    case "import":
      return "place";
    default:
      return "nothing";
  }
}

function readContent(element: XmlElement, around: Around, ends: Ends, report: Report): SchemaNode[] {
  const rule = ruleOf(SCHEMA_GRAMMAR, element.name);
  if (!rule.text) return readTextless(element, around, ends, report);
  return settleText(element.children, { ...around, ends }, roleInSchema).flatMap((node): SchemaNode[] => {
    if (node.kind === "comment") return [readComment(node.comment)];
    if (node.kind === "text") return [readText(node)];
    if (!isKnown(SCHEMA_GRAMMAR, node.element, element, report)) return [];
    return [readSchemaElement(node.element, around, node.alone, report)];
  });
}

/** Children of a union, whose members have lines to themselves if it has, and of elements that take no content. */
function readTextless(element: XmlElement, around: Around, ends: Ends, report: Report): SchemaNode[] {
  return element.children.flatMap((child): SchemaNode[] => {
    if (child.kind === "comment") return [readComment(child)];
    if (child.kind !== "element") reportText(child, element, report);
    else if (isKnown(SCHEMA_GRAMMAR, child, element, report)) return [readSchemaElement(child, around, ends === "lines", report)];
    return [];
  });
}

/** @param alone whether the element has its lines to itself */
function readSchemaElement(element: XmlElement, outer: Around, alone: boolean, report: Report): SchemaNode {
  const { name, origin } = element;
  checkAttributes(element, ruleOf(SCHEMA_GRAMMAR, name), report);
  const spaced = spacedOf(element);
  const around = { ...outer, ...spaced };
  const content = (ends: Ends) => readContent(element, around, ends, report);
  switch (name as Exclude<ElementName, "schema" | "prompt">) {
    case "module": {
      const src = element.attributes.get("src");
      const children = content(alone ? "lines" : "inline");
      const ended = src !== undefined && alone && around.space === "default" && children.every(({ kind }) => kind === "comment");
      return {
        kind: "module",
        name: textOf(element, "name"),
        ...(src === undefined ? {} : { src }),
        cache: flagOf(element, "cache", true),
        ...priorityOf(element),
        ...contextOf(element),
        ...repeatOf(element),
        ...(element.attributes.has("if") && { if: textOf(element, "if") }),
        ...spaced,
        children: ended ? [...children, { kind: "text", text: LINE_END }] : children,
        origin,
      };
    }
    case "union":
      return {
        kind: "union",
        ...(element.attributes.has("default") && { default: textOf(element, "default") }),
        children: content(alone ? "lines" : "inline") as (Module | Comment)[],
        origin,
      };
    case "parameter": {
      content("inline");
      checkParameter(element, report);
      const { attributes } = element;
      return {
        kind: "parameter",
        name: textOf(element, attributes.has("name") ? "name" : "variable"),
        ...(attributes.has("variable") && { variable: true }),
        length: lengthOf(element, "length"),
        type: PARAMETER_TYPES.find((type) => type === attributes.get("type")) ?? "text",
        ...(attributes.has("default") && { default: textOf(element, "default") }),
        ...(attributes.has("placeholder") && { placeholder: textOf(element, "placeholder") }),
        overflow: OVERFLOWS.find((overflow) => overflow === element.attributes.get("overflow")) ?? "error",
        origin,
      } satisfies Parameter;
    }
    case "scaffold":
      content("inline");
      return {
        kind: "scaffold",
        name: textOf(element, "name"),
        modules: textOf(element, "modules")
          .split(/[ \t\r\n]+/)
          .filter((path) => path !== ""),
        origin,
      };
    case "import":
      content("inline");
      return { kind: "import", schema: textOf(element, "schema"), origin };
    case "document":
      content("inline");
      return readDocument(element);
    case "variable":
      content("inline");
      return {
        kind: "variable",
        name: textOf(element, "name"),
        type: VARIABLE_TYPES.find((type) => type === element.attributes.get("type")) ?? "text",
        ...(element.attributes.has("default") && { default: textOf(element, "default") }),
        origin,
      };
    case "system":
    case "user":
    case "assistant":
      return readMessage<SchemaNode>(element, content(flagOf(element, "open", false) ? "written" : "bare"));
  }
}

function roleInPrompt({ name }: XmlElement): LineRole {
  return name === "document" ? "place" : "control";
}

function readPrompt({ element, preamble }: Root, report: Report): Prompt {
  checkAttributes(element, ruleOf(PROMPT_GRAMMAR, "prompt"), report);
  const around = { ...OUTERMOST, ...spacedOf(element) };
  let words = false;
  const children = settleText(element.children, { ...around, ends: "bare" }, roleInPrompt).flatMap((node): PromptNode[] => {
    if (node.kind === "comment") return [readComment(node.comment)];
    if (node.kind === "text") {
      // Blank text before a prompt's first words is layout among the includes, whatever `xml:space` says.
      if (!words && isBlank(rawOf(node.span)) && !node.cdata) return [];
      words = true;
      return [readText(node)];
    }
    if (!Object.hasOwn(PROMPT_GRAMMAR, node.element.name)) return [readInclude(node.element, report)];
    words = true;
    return isKnown(PROMPT_GRAMMAR, node.element, element, report) ? [readPromptElement(node.element, around, report)] : [];
  });
  const values = Object.fromEntries([...element.attributes].filter(([name]) => !Object.hasOwn(PROMPT_GRAMMAR.prompt!.attributes, name)));
  return { kind: "prompt", schema: textOf(element, "schema"), values, ...spacedOf(element), children, preamble, origin: element.origin };
}

function readPromptElement(element: XmlElement, outer: Around, report: Report): PromptMessage | DocumentSlot {
  const rule = ruleOf(PROMPT_GRAMMAR, element.name);
  checkAttributes(element, rule, report);
  const around = { ...outer, ...spacedOf(element) };
  const readChild = (child: XmlElement) =>
    isKnown(PROMPT_GRAMMAR, child, element, report) ? [readPromptElement(child, around, report) as DocumentSlot] : [];
  if (element.name === "document") {
    for (const child of element.children) {
      if (child.kind === "element") readChild(child);
      else if (child.kind !== "comment") reportText(child, element, report);
    }
    return readDocument(element);
  }
  const children = settleText(element.children, { ...around, ends: "bare" }, roleInPrompt).flatMap(
    (node): (Text | Comment | DocumentSlot)[] => {
      if (node.kind === "comment") return [readComment(node.comment)];
      return node.kind === "text" ? [readText(node)] : readChild(node.element);
    },
  );
  return readMessage(element, children);
}

function readInclude(element: XmlElement, report: Report): Include {
  const children: (Include | Comment)[] = [];
  for (const child of element.children) {
    if (child.kind === "comment") children.push(readComment(child));
    else if (child.kind !== "element") reportText(child, element, report);
    else if (Object.hasOwn(PROMPT_GRAMMAR, child.name)) reportMisplaced(child, element, "belongs in the prompt itself", report);
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
  return { kind: "message", role: name as Role, open, ...spacedOf(element), children, origin };
}

function readComment({ text, span }: XmlComment): Comment {
  return { kind: "comment", text, origin: span };
}

function readText({ text, written, cdata, span }: Extract<Settled, { kind: "text" }>): Text {
  return { kind: "text", text, ...(written !== undefined && { written }), ...(cdata && { cdata }), origin: span };
}

type Grammar = Readonly<Partial<Record<ElementName, ElementRule>>>;

function ruleOf(grammar: Grammar, name: string): ElementRule {
  return grammar[name as ElementName] as ElementRule;
}

/** Whether the element is allowed in its parent; reported if not. */
function isKnown(grammar: Grammar, element: XmlElement, parent: XmlElement, report: Report): boolean {
  const { children } = ruleOf(grammar, parent.name);
  if (children.includes(element.name as ElementName)) return true;
  if (Object.hasOwn(grammar, element.name)) {
    const parents = Object.keys(grammar).filter((name) => ruleOf(grammar, name).children.includes(element.name as ElementName));
    const places = parents.length === 0 ? "is only allowed as the root element" : `belongs in ${listElements(parents)}`;
    reportMisplaced(element, parent, places, report);
  } else {
    const known =
      didYouMean(element.name, children) || (children.length > 0 ? `; it takes ${listElements(children)}` : "; it takes no elements");
    report("unknown-element", `no element \`<${element.name}>\` in \`<${parent.name}>\`${known}`, element.origin);
  }
  return false;
}

function reportMisplaced(element: XmlElement, parent: XmlElement, places: string, report: Report): void {
  report("misplaced-element", `\`<${element.name}>\` is not allowed in \`<${parent.name}>\`: it ${places}`, element.origin);
}

function reportText({ span }: Exclude<XmlNode, XmlElement | XmlComment>, parent: XmlElement, report: Report): void {
  const { source, start } = span;
  const raw = rawOf(span);
  if (isBlank(raw)) return;
  const from = start + raw.search(/\S/);
  report("misplaced-text", `\`<${parent.name}>\` takes no text`, { source, start: from, end: start + raw.trimEnd().length });
}

function rawOf({ source, start, end }: Span): string {
  return source.text.slice(start, end);
}

function listElements(names: readonly string[]): string {
  return list(names.map((name) => `<${name}>`));
}

function list(words: readonly string[]): string {
  return words.map((word) => `\`${word}\``).join(", ");
}

/** Reports what is wrong with an element's attributes; reading continues with the valid values. */
function checkAttributes({ name: elementName, attributes, origin }: XmlElement, rule: ElementRule, report: Report): void {
  for (const [name, value] of attributes) {
    const known = Object.hasOwn(rule.attributes, name) ? rule.attributes[name] : undefined;
    if (known) {
      const wanted = wantedValue(known.kind, value);
      if (wanted) report("bad-value", `\`${name}\` is \`${value}\`; it takes ${wanted}`, () => attributeSpans(origin, name).value);
    } else if (!rule.others) {
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

/** A parameter takes an argument or a variable; it must not repeat what the variable declares. */
function checkParameter({ attributes, origin }: XmlElement, report: Report): void {
  const [named, variable] = [attributes.has("name"), attributes.has("variable")];
  if (!named && !variable) report("missing-attribute", "`<parameter>` needs the attribute `name` or `variable`", origin);
  for (const attribute of variable ? ["name", "type", "default"] : []) {
    if (!attributes.has(attribute)) continue;
    const message = `a parameter with \`variable\` takes no \`${attribute}\`, which the variable declares; remove \`${attribute}\` or \`variable\``;
    report("unknown-attribute", message, () => attributeSpans(origin, attribute).name);
  }
}

function flagOf({ attributes }: XmlElement, name: string, otherwise: boolean): boolean {
  const value = attributes.get(name);
  return value === "true" || (value !== "false" && otherwise);
}

function textOf({ attributes }: XmlElement, name: string): string {
  return attributes.get(name) ?? "";
}

/** 1 in place of an invalid length. */
function lengthOf({ attributes }: XmlElement, name: string): number {
  const value = attributes.get(name) ?? "";
  return wantedValue("length", value) ? 1 : Number(value);
}

function spacedOf({ attributes }: XmlElement): Spaced {
  const [space, wrap] = [attributes.get("xml:space"), attributes.get("wrap")];
  return { ...((space === "preserve" || space === "default") && { space }), ...((wrap === "hard" || wrap === "soft") && { wrap }) };
}

function priorityOf({ attributes }: XmlElement): { readonly priority?: number } {
  const value = attributes.get("priority");
  return value === undefined || wantedValue("priority", value) ? {} : { priority: Number(value) };
}

function contextOf({ attributes }: XmlElement): { readonly context?: Context } {
  const context = CONTEXTS.find((each) => each === attributes.get("context"));
  return context === undefined ? {} : { context };
}

function repeatOf({ attributes }: XmlElement): { readonly repeat?: number } {
  const value = attributes.get("repeat");
  return value === undefined || wantedValue("repeat", value) ? {} : { repeat: Number(value) };
}

/** What the value should have been, or undefined if it is valid. */
function wantedValue(kind: AttributeKind, value: string): string | undefined {
  switch (kind) {
    case "boolean":
      return value === "true" || value === "false" ? undefined : "`true` or `false`";
    case "space":
      return value === "preserve" || value === "default" ? undefined : "`preserve` or `default`";
    case "wrap":
      return value === "hard" || value === "soft" ? undefined : "`hard` or `soft`";
    case "priority":
      return /^\d{1,6}$/.test(value) ? undefined : "a whole number, 0 or more; modules with the lowest are left out first";
    case "overflow":
      return oneOf(OVERFLOWS, value);
    case "context":
      return oneOf(CONTEXTS, value);
    case "parameter type":
      return oneOf(PARAMETER_TYPES, value);
    case "variable type":
      return oneOf(VARIABLE_TYPES, value);
    case "condition":
      return conditionOf(value) ? undefined : "a variable, as in `premium`, `!premium`, `tone=formal` or `tone!=formal`";
    case "repeat":
      return /^[1-9]\d*$/.test(value) && Number(value) <= MAX_REPEAT ? undefined : `a number of times from 1 to ${MAX_REPEAT}`;
    case "length":
      return /^[1-9]\d*$/.test(value) && Number(value) <= MAX_PARAMETER_LENGTH
        ? undefined
        : `a number of tokens from 1 to ${MAX_PARAMETER_LENGTH}`;
    case "name":
    case "text":
      return undefined;
  }
}

function oneOf(words: readonly string[], value: string): string | undefined {
  return words.includes(value) ? undefined : list(words);
}
