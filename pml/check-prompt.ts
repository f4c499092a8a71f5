import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import { MAX_DEPTH } from "./grammar.js";
import { hasMessages, modulesIn, namedIn, parametersIn, pathWithin, textOutsideMessages } from "./scope.js";
import { attributeSpans } from "./source.js";
import { didYouMean } from "./suggest.js";
import type { Include, Module, Prompt, Schema, SchemaNode, Union } from "./tree.js";

/** Modules that a prompt includes, by path. */
export type Included = ReadonlyMap<string, Include>;

export type CheckedPrompt = { readonly included: Included; readonly diagnostics: readonly Diagnostic[] };

/** A prompt against the schema whose modules it includes. Lengths of arguments are for compilePrompt, which counts tokens. */
export function checkPrompt(schema: Schema, prompt: Prompt): CheckedPrompt {
  const { diagnostics, report } = diagnosticList();
  const included = new Map<string, Include>();
  if (prompt.schema !== schema.name) {
    const message = `this prompt is of schema \`${prompt.schema}\`, the schema given is \`${schema.name}\``;
    report("wrong-schema", message, attributeSpans(prompt.origin, "schema").value);
  }
  checkOrder(prompt, report);
  checkOpen(prompt, report);
  checkMessages(schema, prompt, report);
  const includes = prompt.children.filter((child) => child.kind === "include");
  checkIncludes(includes, { schema, path: "", children: schema.children, depth: 1, included, report });
  return { included, diagnostics };
}

/** Modules come first: their positions are the schema's, and the prompt's own text begins behind it. */
function checkOrder({ children }: Prompt, report: Report): void {
  let text = false;
  for (const child of children) {
    if (child.kind === "include" && text) {
      const message = `module \`${child.name}\` stands after text; name all modules before the prompt's own text, which sees them all`;
      report("module-after-text", message, child.origin);
    }
    if (child.kind !== "include" && child.kind !== "comment") text = true;
  }
}

function checkOpen({ children }: Prompt, report: Report): void {
  const last = children.findLast(({ kind }) => kind !== "comment");
  for (const child of children) {
    if (child.kind === "message" && child.open && (child !== last || child.role !== "assistant")) {
      const message = "an `<assistant>` that ends the prompt may be open, where the model goes on in it; no other message";
      report("misplaced-open", message, attributeSpans(child.origin, "open").name);
    }
  }
}

/** In a dialogue, text that stands outside of messages becomes a user's message (compile.ts). */
function checkMessages({ children: nodes }: Schema, { children, origin }: Prompt, report: Report): void {
  const messages = children.some(({ kind }) => kind === "message");
  if (!messages && !hasMessages(nodes)) return;
  const open = nodes.some((node) => node.kind === "message" && node.open);
  // Until the prompt's first message, text goes on in the one that the schema leaves open.
  const first = children.findIndex(({ kind }) => kind === "message");
  const loose = open ? (first === -1 ? [] : children.slice(first)) : children;
  const outside = loose.find(({ kind }) => kind === "text" || kind === "document");
  if (outside) {
    report("text-outside-message", "this stands outside of any message and becomes a user's; write `<user>` around it", outside.origin);
  }
  if (messages && !hasMessages(nodes) && textOutsideMessages(nodes)) {
    report(
      "text-outside-message",
      "the schema's text stands before the prompt's messages, outside of any; put it into a message of the schema",
      origin,
    );
  }
}

type Context = {
  readonly schema: Schema;
  readonly path: string;
  readonly children: readonly SchemaNode[];
  readonly depth: number;
  readonly included: Map<string, Include>;
  readonly report: Report;
};

function checkIncludes(includes: readonly Include[], context: Context): void {
  const { path, children, depth, included, report } = context;
  if (includes.length === 0) return;
  if (depth > MAX_DEPTH) {
    report("too-deep", `elements may be nested ${MAX_DEPTH} deep`, includes[0]?.origin);
    return;
  }
  const modules = modulesIn(children);
  const chosen = new Map<Union, string>();
  for (const include of includes) {
    const { name, origin } = include;
    const found = modules.get(name);
    if (!found) {
      const message = () => {
        const meant = didYouMean(name, modules.keys()) || elsewhere(name, context.schema);
        return `no module \`${name}\` in \`${ownerName(context)}\`${meant}`;
      };
      report("unknown-module", message, origin);
      continue;
    }
    const { module, union } = found;
    const modulePath = pathWithin(path, name);
    if (included.has(modulePath)) {
      report("included-twice", `module \`${name}\` is included twice; it has one place`, origin);
      continue;
    }
    const other = union && chosen.get(union);
    if (other !== undefined) {
      report("union-conflict", `\`${other}\` and \`${name}\` are members of one union; include one of them`, origin);
    } else if (union) chosen.set(union, name);
    included.set(modulePath, include);
    checkArguments(module, include, report);
    const nested = include.children.filter((child) => child.kind === "include");
    checkIncludes(nested, { ...context, path: modulePath, children: module.children, depth: depth + 1 });
  }
}

function checkArguments({ name, children }: Module, include: Include, report: Report): void {
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
  for (const [parameter, { default: value }] of parameters) {
    if (value === undefined && !Object.hasOwn(include.arguments, parameter)) {
      const message = `\`${name}\` needs an argument for its parameter \`${parameter}\`; write \`<${name} ${parameter}="...">\``;
      report("missing-argument", message, include.origin);
    }
  }
}

function ownerName({ schema, path }: Context): string {
  return path === "" ? schema.name : path;
}

/** Where a module of this name does stand, in words. */
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
