import { type ElementRule, PROMPT_GRAMMAR, SCHEMA_GRAMMAR } from "./grammar.js";
import { mendMarkup } from "./mend.js";
import { parseMarkup } from "./parse.js";
import { modulesIn, namedIn, parametersIn, pathWithin, variablesOf } from "./scope.js";
import { attributeSpans, endOfTag, type Origin, type SourceText, type Span, sourceText } from "./source.js";
import {
  CONTEXTS,
  type Include,
  type Module,
  OVERFLOWS,
  PARAMETER_TYPES,
  type Parameter,
  type Prompt,
  type Schema,
  type SchemaNode,
  VARIABLE_TYPES,
} from "./tree.js";

/** Markup while it is being written: it need not parse. Offsets count UTF-16 code units of `source.text`. */
export type Draft = {
  readonly source: SourceText;
  readonly schema?: Schema;
  readonly prompt?: Prompt;
  /** Maps an offset of the repaired text to the text as written. */
  toWritten(offset: number): number;
  /** The reverse. */
  toMended(offset: number): number;
};

/** What can be read of markup while it is being written; unclosed tags are repaired. @param file its name in diagnostics */
export function draftOf(text: string, file: string): Draft {
  const source = sourceText(file, text);
  const { text: mended, toMended, toWritten } = mendMarkup(source.text);
  const { schema, prompt } = parseMarkup(mended, { file });
  return { source, ...(schema && { schema }), ...(prompt && { prompt }), toWritten, toMended };
}

/** Something that can be typed here. */
export type Completion = {
  readonly label: string;
  readonly kind: "element" | "module" | "attribute" | "parameter" | "value";
  readonly detail: string;
};

/** What is allowed at an offset; `schemas` are those that a prompt may name, by name. */
export function completionsAt(text: string, offset: number, schemas: ReadonlyMap<string, Schema>): readonly Completion[] {
  const before = text.slice(0, offset);
  const tag = /<([A-Za-z_\u00C0-\uFFFF][^\s<>/="'&]*)?((?:[^<>"']|"[^"]*"|'[^']*')*)(?:(["'])([^"'<]*))?$/.exec(before);
  if (!tag) return [];
  const [, name = "", attributes = "", quote, value] = tag;
  const path = openElements(before.slice(0, tag.index));
  const root = path[0] ?? (quote === undefined && attributes === "" ? "" : name);
  const isPrompt = root === "prompt";
  const schema = isPrompt ? schemas.get(/<prompt\b[^>]*?\bschema\s*=\s*["']([^"']*)/.exec(text)?.[1] ?? "") : undefined;
  if (quote !== undefined) {
    const attribute = /([^\s"'=]+)\s*=\s*$/.exec(attributes)?.[1] ?? "";
    if (name === "prompt" && attribute === "schema") return valuesFrom(schemas.keys(), "schema");
    return valuesOf(name, attribute, isPrompt ? [] : versionsOf(text, schemas), value ?? "");
  }
  if (attributes !== "") return attributesOf(name, path, schema, isPrompt, attributes);
  return elementsWithin(path, schema, isPrompt);
}

/** The schema that a text is, as it is being written and, with its imports, as it was saved. */
function versionsOf(text: string, schemas: ReadonlyMap<string, Schema>): readonly Schema[] {
  const { schema } = draftOf(text, "");
  const saved = schema && schemas.get(schema.name);
  return [...(schema ? [schema] : []), ...(saved ? [saved] : [])];
}

function elementsWithin(path: readonly string[], schema: Schema | undefined, isPrompt: boolean): Completion[] {
  if (path.length === 0) return ["schema", "prompt"].map((label) => ({ label, kind: "element", detail: `a ${label} file` }));
  const parent = path.at(-1)!;
  const rule: ElementRule | undefined = (isPrompt ? PROMPT_GRAMMAR : SCHEMA_GRAMMAR)[parent as keyof typeof SCHEMA_GRAMMAR];
  const elements = (rule?.children ?? []).map((label): Completion => ({ label, kind: "element", detail: `element of \`${parent}\`` }));
  if (!isPrompt || !schema || (rule !== undefined && parent !== "prompt")) return elements;
  const names = path.slice(1);
  const scope = names.length === 0 ? schema.children : moduleAt(schema, names)?.children;
  return [
    ...[...modulesIn(scope ?? []).keys()].map(
      (label): Completion => ({
        label,
        kind: "module",
        detail: `module of \`${names.at(-1) ?? schema.name}\``,
      }),
    ),
    ...elements,
  ];
}

function attributesOf(name: string, path: readonly string[], schema: Schema | undefined, isPrompt: boolean, written: string): Completion[] {
  const given = new Set(Array.from(written.matchAll(/([^\s"'=]+)\s*=/g), ([, each]) => each));
  const rule: ElementRule | undefined = (isPrompt ? PROMPT_GRAMMAR : SCHEMA_GRAMMAR)[name as keyof typeof SCHEMA_GRAMMAR];
  const known = Object.keys(rule?.attributes ?? {}).map(
    (label): Completion => ({
      label,
      kind: "attribute",
      detail: `attribute of \`${name}\``,
    }),
  );
  const module = isPrompt && schema && !rule ? moduleAt(schema, [...path.slice(1), name]) : undefined;
  const parameters = module ? [...parametersIn(module.children).values()] : [];
  const variables = isPrompt && schema && name === "prompt" ? [...variablesOf(schema).values()] : [];
  const values = variables.map(
    (each): Completion => ({
      label: each.name,
      kind: "parameter",
      detail: `variable, ${each.type}${each.default === undefined ? "" : `, \`${each.default}\` by default`}`,
    }),
  );
  const own = parameters.map(
    (each): Completion => ({
      label: each.name,
      kind: "parameter",
      detail: `at most ${each.length} tokens${each.default === undefined ? "" : `, \`${each.default}\` by default`}`,
    }),
  );
  return [...known, ...own, ...values].filter(({ label }) => !given.has(label));
}

function valuesFrom(labels: Iterable<string>, detail: string): Completion[] {
  return Array.from(new Set(labels), (label) => ({ label, kind: "value", detail }));
}

function valuesOf(element: string, attribute: string, versions: readonly Schema[], written: string): Completion[] {
  if (element === "scaffold" && attribute === "modules") {
    const taken = new Set(written.split(/\s+/));
    return valuesFrom(
      versions.flatMap(({ children }) => [...modulesIn(children).keys()]).filter((name) => !taken.has(name)),
      "module",
    );
  }
  if (attribute === "variable" || attribute === "if") {
    return valuesFrom(
      versions.flatMap((schema) => [...variablesOf(schema).keys()]),
      "variable",
    );
  }
  const words: Readonly<Record<string, readonly string[]>> = {
    cache: ["false", "true"],
    open: ["true", "false"],
    wrap: ["soft", "hard"],
    "xml:space": ["preserve", "default"],
    overflow: OVERFLOWS,
    context: CONTEXTS,
    type: element === "variable" ? VARIABLE_TYPES : PARAMETER_TYPES,
  };
  return valuesFrom(words[attribute] ?? [], `\`${attribute}\``);
}

/** Names of the elements still open after a text. */
function openElements(before: string): string[] {
  const open: string[] = [];
  for (const [tag, slash, name = ""] of before.matchAll(
    /<!--[\s\S]*?-->|<!\[CDATA\[[\s\S]*?\]\]>|<(\/?)([A-Za-z_\u00C0-\uFFFF][^\s<>/="'&]*)(?:[^<>"']|"[^"]*"|'[^']*')*>/g,
  )) {
    if (tag.startsWith("<!")) continue;
    if (slash === "") {
      if (!tag.endsWith("/>")) open.push(name);
    } else if (open.includes(name)) open.length = open.lastIndexOf(name);
  }
  return open;
}

/** What an offset refers to: a module by its path, one of its parameters, a schema's name, or a file. */
export type Reference =
  | { readonly kind: "module"; readonly path: string; readonly span: Span }
  | { readonly kind: "parameter"; readonly path: string; readonly name: string; readonly span: Span }
  | { readonly kind: "schema"; readonly name: string; readonly span: Span }
  | { readonly kind: "file"; readonly path: string; readonly span: Span };

/**
 * What the text refers to at an offset: a module, parameter, variable, schema or file; undefined if nothing.
 * @param offset in the text as written, like the spans that are returned
 */
export function referenceAt(draft: Draft, offset: number): Reference | undefined {
  const at = draft.toMended(offset);
  const holds = (span: Span | undefined) => span !== undefined && span.start <= at && at <= span.end;
  const written = (span: Span): Span => ({ source: draft.source, start: draft.toWritten(span.start), end: draft.toWritten(span.end) });
  const inInclude = (include: Include, outer: string): Reference | undefined => {
    const path = pathWithin(outer, include.name);
    if (include.origin && holds(include.origin)) return { kind: "module", path, span: written(include.origin) };
    for (const name of Object.keys(include.arguments)) {
      const { name: span, value } = attributeSpans(include.origin, name);
      if (span && (holds(span) || holds(value))) return { kind: "parameter", path, name, span: written(span) };
    }
    return firstOf(include.children, (child) => (child.kind === "include" ? inInclude(child, path) : undefined));
  };
  const inSchema = (node: SchemaNode, outer: string): Reference | undefined => {
    const found = (span: Span | undefined, reference: (span: Span) => Reference) =>
      span && holds(span) ? reference(written(span)) : undefined;
    switch (node.kind) {
      case "module": {
        const path = pathWithin(outer, node.name);
        const tag = tagOf(node.origin);
        const source = found(attributeSpans(node.origin, "src").value, (span) => ({ kind: "file", path: node.src ?? "", span }));
        return source ?? found(tag, (span) => ({ kind: "module", path, span })) ?? firstOf(node.children, (child) => inSchema(child, path));
      }
      case "parameter":
        return found(tagOf(node.origin), (span) => ({ kind: "parameter", path: outer, name: node.name, span }));
      case "import":
        return found(attributeSpans(node.origin, "schema").value, (span) => ({ kind: "file", path: node.schema, span }));
      case "union":
      case "message":
        return firstOf<SchemaNode, Reference>(node.children, (child) => inSchema(child, outer));
      default:
        return undefined;
    }
  };
  if (draft.schema) return firstOf(draft.schema.children, (child) => inSchema(child, ""));
  const { value } = attributeSpans(draft.prompt?.origin, "schema");
  if (draft.prompt && value && holds(value)) return { kind: "schema", name: draft.prompt.schema, span: written(value) };
  return firstOf(draft.prompt?.children ?? [], (child) => (child.kind === "include" ? inInclude(child, "") : undefined));
}

function firstOf<Item, Found>(items: readonly Item[], find: (item: Item) => Found | undefined): Found | undefined {
  for (const item of items) {
    const found = find(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

function tagOf(origin: Origin | undefined): Span | undefined {
  return origin && { ...origin, end: endOfTag(origin) };
}

/** Where a schema defines a module or one of its parameters; undefined if it does not. */
export function definitionOf(
  schema: Schema,
  { path, name }: { readonly path: string; readonly name?: string },
): Module | Parameter | undefined {
  const module = moduleAt(schema, path.split("/"));
  if (name === undefined) return module;
  return (
    module &&
    ([...namedIn(module.children)].map(({ node }) => node).find((node) => node.kind === "parameter" && node.name === name) as
      | Parameter
      | undefined)
  );
}

function moduleAt(schema: Schema, path: readonly string[]): Module | undefined {
  let scope = schema.children;
  let module: Module | undefined;
  for (const name of path) {
    module = modulesIn(scope).get(name)?.module;
    if (!module) return undefined;
    scope = module.children;
  }
  return module;
}
