import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import { modulesIn, parametersIn, pathWithin } from "./scope.js";
import type { Include, Prompt, PromptNode, Schema, SchemaNode } from "./tree.js";

/**
 * Values for a prompt from a program: modules by name, each `true`, or an object of its arguments and of the modules in
 * it. As the builder's, and read from JSON; numbers are written as JSON writes them.
 */
export type Data = { readonly [name: string]: unknown };

/**
 * The prompt with a program's values: a module that it includes already gets the arguments, one that it does not is
 * included, `false` leaves one out. The schema says what may be given; what it has not is told of.
 */
export function withData(
  schema: Schema,
  prompt: Prompt,
  data: Data,
): { readonly prompt: Prompt; readonly diagnostics: readonly Diagnostic[] } {
  const { diagnostics, report } = diagnosticList();
  const own = prompt.children.filter((child) => child.kind !== "include");
  const comments = own.filter((_, i) => own.slice(0, i + 1).every(({ kind }) => kind === "comment"));
  const includes = merge(
    prompt.children.filter((child) => child.kind === "include"),
    data,
    { scope: schema.children, path: "", report },
  );
  const words: readonly PromptNode[] = own.slice(comments.length);
  return { prompt: { ...prompt, children: [...comments, ...includes, ...words] }, diagnostics };
}

type Context = { readonly scope: readonly SchemaNode[]; readonly path: string; readonly report: Report };

function merge(includes: readonly Include[], data: Data, context: Context): Include[] {
  const modules = modulesIn(context.scope);
  const merged = new Map<string, Include>(includes.map((include) => [include.name, include]));
  for (const [name, value] of Object.entries(data)) {
    const module = modules.get(name)?.module;
    const path = pathWithin(context.path, name);
    if (value === false) merged.delete(name);
    else if (value === true || isData(value)) {
      const include = merged.get(name) ?? { kind: "include", name, arguments: {}, children: [] };
      // A name that the schema has not is told of when the prompt is checked.
      merged.set(name, module && isData(value) ? fill(include, value, { ...context, scope: module.children, path }) : include);
    } else
      context.report(
        "bad-value",
        `the value of \`${path}\` is ${JSON.stringify(value)}; a module takes true, false, or an object of its arguments`,
      );
  }
  return [...merged.values()];
}

function fill(include: Include, values: Data, context: Context): Include {
  const parameters = parametersIn(context.scope);
  const given: Record<string, string> = { ...include.arguments };
  const nested: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(values)) {
    const isText = typeof value === "string" || typeof value === "number";
    if (parameters.has(name) && !isText) {
      context.report(
        "bad-value",
        `the value of \`${pathWithin(context.path, name)}\` is ${JSON.stringify(value)}; a parameter takes text or a number`,
      );
    } else if (isText) given[name] = String(value);
    else nested[name] = value;
  }
  const inner = include.children.filter((child) => child.kind === "include");
  return { ...include, arguments: given, children: merge(inner, nested, context) };
}

function isData(value: unknown): value is Data {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
