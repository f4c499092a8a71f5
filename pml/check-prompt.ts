import { conditionOf, holds } from "./condition.js";
import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import { MAX_DEPTH } from "./grammar.js";
import { hasMessages, modulesIn, namedIn, parametersIn, pathWithin, repetition, textOutsideMessages, variablesOf } from "./scope.js";
import { attributeSpans, valueSpan } from "./source.js";
import { didYouMean } from "./suggest.js";
import type { Include, Module, Prompt, Schema, SchemaNode, Union } from "./tree.js";
import { wrongValue } from "./value.js";

/** Modules that a prompt includes, by path; each repetition has its own path (`repetition`). */
export type Included = ReadonlyMap<string, Include>;

/** What a prompt includes, which values it gives, and which rules it breaks. */
export type CheckedPrompt = {
  readonly included: Included;
  /** Values of the schema's variables: the prompt's, or else their defaults. */
  readonly values: ReadonlyMap<string, string>;
  readonly diagnostics: readonly Diagnostic[];
};

/** Checks a prompt against its schema. Lengths of arguments are left to compilePrompt, which counts tokens. */
export function checkPrompt(schema: Schema, prompt: Prompt): CheckedPrompt {
  const { diagnostics, report } = diagnosticList();
  const included = new Map<string, Include>();
  if (prompt.schema !== schema.name) {
    const message = `this prompt is written for schema \`${prompt.schema}\`, but the given schema is \`${schema.name}\``;
    report("wrong-schema", message, attributeSpans(prompt.origin, "schema").value);
  }
  checkOrder(prompt, report);
  checkOpen(prompt, report);
  checkMessages(schema, prompt, report);
  const values = checkValues(schema, prompt, report);
  const includes = prompt.children.filter((child) => child.kind === "include");
  checkIncludes(includes, { schema, values, prompt, path: "", children: schema.children, depth: 1, included, report });
  return { included, values, diagnostics };
}

/** The values of a schema's variables for a prompt. A boolean without a value is false. */
function checkValues(schema: Schema, { values: given, origin }: Prompt, report: Report): ReadonlyMap<string, string> {
  const variables = variablesOf(schema);
  for (const [name, value] of Object.entries(given)) {
    const variable = variables.get(name);
    if (!variable) {
      const names = [...variables.keys()].map((each) => `\`${each}\``).join(", ");
      const known = () => didYouMean(name, variables.keys()) || (names ? `; it has ${names}` : "; it has none");
      report(
        "unknown-variable",
        () => `no variable \`${name}\` in \`${schema.name}\`${known()}`,
        () => attributeSpans(origin, name).name,
      );
      continue;
    }
    const wrong = wrongValue(variable.type, value);
    if (wrong) report("bad-value", `the value of \`${name}\` is \`${value}\`; ${wrong}`, valueSpan(origin, name, value));
  }
  const values = new Map<string, string>();
  for (const [name, { type, default: otherwise = type === "boolean" ? "false" : undefined }] of variables) {
    const value = Object.hasOwn(given, name) ? given[name] : otherwise;
    if (value !== undefined) values.set(name, value);
    else
      report(
        "missing-argument",
        `the prompt gives no value for \`${name}\`; write \`<prompt schema="${schema.name}" ${name}="...">\``,
        origin,
      );
  }
  return values;
}

/** Modules come first: their positions are the schema's, and the prompt's own text begins after it. */
function checkOrder({ children }: Prompt, report: Report): void {
  let text = false;
  for (const child of children) {
    if (child.kind === "include" && text) {
      const message = `module \`${child.name}\` comes after text; name all modules before the prompt's own text, which sees them all`;
      report("module-after-text", message, child.origin);
    }
    if (child.kind !== "include" && child.kind !== "comment") text = true;
  }
}

function checkOpen({ children }: Prompt, report: Report): void {
  const last = children.findLast(({ kind }) => kind !== "comment");
  for (const child of children) {
    if (child.kind === "message" && child.open && (child !== last || child.role !== "assistant")) {
      const message = "only an `<assistant>` at the prompt's end may be open, for the model to continue; close this message";
      report("misplaced-open", message, attributeSpans(child.origin, "open").name);
    }
  }
}

/** In a dialogue, text outside messages becomes a user message (compile.ts). */
function checkMessages({ children: nodes }: Schema, { children, origin }: Prompt, report: Report): void {
  const messages = children.some(({ kind }) => kind === "message");
  if (!messages && !hasMessages(nodes)) return;
  const open = nodes.some((node) => node.kind === "message" && node.open);
  // Until the prompt's first message, text continues the one that the schema leaves open.
  const first = children.findIndex(({ kind }) => kind === "message");
  const loose = open ? (first === -1 ? [] : children.slice(first)) : children;
  const outside = loose.find(({ kind }) => kind === "text" || kind === "document");
  if (outside) {
    report("text-outside-message", "this is outside any message and becomes a user message; wrap it in `<user>`", outside.origin);
  }
  if (messages && !hasMessages(nodes) && textOutsideMessages(nodes)) {
    report(
      "text-outside-message",
      "the schema's text comes before the prompt's messages, outside any message; put it into a message of the schema",
      origin,
    );
  }
}

type Context = {
  readonly schema: Schema;
  readonly prompt: Prompt;
  readonly values: ReadonlyMap<string, string>;
  readonly path: string;
  readonly children: readonly SchemaNode[];
  readonly depth: number;
  readonly included: Map<string, Include>;
  readonly report: Report;
};

function checkIncludes(includes: readonly Include[], context: Context): void {
  const { path, children, depth, values, included, report } = context;
  if (depth > MAX_DEPTH) {
    report("too-deep", `elements may be nested at most ${MAX_DEPTH} deep`, includes[0]?.origin);
    return;
  }
  const modules = modulesIn(children);
  if (includes.length === 0 && ![...modules.values()].some(({ module }) => module.if !== undefined)) return;
  const chosen = new Map<Union, string>();
  const times = new Map<string, number>();
  for (const include of [...includes, ...impliedBy(modules, includes, context)]) {
    const { name, origin } = include;
    const found = modules.get(name);
    if (!found) {
      const message = () => {
        const variables = path === "" ? variablesOf(context.schema).keys() : [];
        const meant = didYouMean(name, [...modules.keys(), ...variables]) || elsewhere(name, context.schema);
        return `no module \`${name}\` in \`${ownerName(context)}\`${meant}`;
      };
      report("unknown-module", message, origin);
      continue;
    }
    const { module, union } = found;
    const before = times.get(name) ?? 0;
    times.set(name, before + 1);
    const { repeat = 1 } = module;
    if (before >= repeat) {
      const message =
        repeat === 1 ? `is included twice; it has one place` : `is included more times than its \`repeat\` of ${repeat} allows`;
      if (before === repeat) report("included-twice", `module \`${name}\` ${message}`, origin);
      continue;
    }
    const condition = module.if === undefined ? undefined : conditionOf(module.if);
    if (condition && !holds(condition, values.get(condition.variable) ?? "")) continue;
    const modulePath = pathWithin(path, repetition(name, before));
    const other = union && chosen.get(union);
    if (other !== undefined && other !== name) {
      report("union-conflict", `\`${other}\` and \`${name}\` are members of the same union; include only one of them`, origin);
    } else if (union) chosen.set(union, name);
    included.set(modulePath, include);
    checkArguments(module, include, context);
    const nested = include.children.filter((child) => child.kind === "include");
    checkIncludes(nested, { ...context, path: modulePath, children: module.children, depth: depth + 1 });
  }
}

/** Modules whose condition holds are included even if the prompt does not name them; it may name them to give arguments. */
function impliedBy(modules: ReturnType<typeof modulesIn>, includes: readonly Include[], { values }: Context): Include[] {
  const named = new Set(includes.map(({ name }) => name));
  return [...modules.values()].flatMap(({ module }) => {
    const condition = module.if === undefined || named.has(module.name) ? undefined : conditionOf(module.if);
    if (!condition || !holds(condition, values.get(condition.variable) ?? "")) return [];
    return [{ kind: "include", name: module.name, arguments: {}, children: [] }];
  });
}

function checkArguments({ name, children }: Module, include: Include, { prompt, report }: Pick<Context, "prompt" | "report">): void {
  const parameters = parametersIn(children);
  for (const argument of Object.keys(include.arguments)) {
    if (parameters.has(argument)) continue;
    const message = () => {
      const names = [...parameters.keys()].map((each) => `\`${each}\``).join(", ");
      const meant = didYouMean(argument, parameters.keys()) || (names ? `; it has ${names}` : "; it has none");
      return `no parameter \`${argument}\` in \`${name}\`${meant}`;
    };
    report("unknown-argument", message, () => attributeSpans(include.origin, argument).name);
  }
  for (const [parameter, { type, default: value }] of parameters) {
    const given = Object.hasOwn(include.arguments, parameter) ? include.arguments[parameter] : undefined;
    if (given !== undefined) {
      const wrong = wrongValue(type, given);
      const span = () => valueSpan(include.origin, parameter, given);
      if (wrong) report("bad-value", `the argument \`${parameter}\` of \`${name}\` is \`${given}\`; ${wrong}`, span);
    } else if (value === undefined) {
      const message = `\`${name}\` needs an argument for its parameter \`${parameter}\`; write \`<${name} ${parameter}="...">\``;
      report("missing-argument", message, include.origin ?? prompt.origin);
    }
  }
}

function ownerName({ schema, path }: Context): string {
  return path === "" ? schema.name : path;
}

/** Where a module of this name does exist, in words. */
function elsewhere(name: string, schema: Schema): string {
  const path = findPath(name, schema.children, "");
  return path === undefined ? "" : `; there is one at \`${path}\``;
}

function findPath(name: string, children: readonly SchemaNode[], path: string): string | undefined {
  for (const { node } of namedIn(children)) {
    if (node.kind !== "module") continue;
    const modulePath = pathWithin(path, node.name);
    const found = node.name === name ? modulePath : findPath(name, node.children, modulePath);
    if (found !== undefined) return found;
  }
  return undefined;
}
