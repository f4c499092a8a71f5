import { type Diagnostic, diagnosticList, type Report } from "./diagnostic.js";
import { modulesIn, parametersIn, pathWithin, variablesOf } from "./scope.js";
import type { Include, ParameterType, Prompt, PromptNode, Schema, SchemaNode, VariableType } from "./tree.js";

/**
 * A program's values for a prompt: for the schema's variables, and for modules by name, each `true`, or an object of
 * its arguments and nested modules, or a list of these if it may be repeated. The same form as the builder's, read
 * from JSON; numbers are written as in JSON.
 */
export type Data = { readonly [name: string]: unknown };

/**
 * The prompt with a program's values: a module that it already includes gets the arguments, any other is
 * included, `false` leaves one out, and a list replaces the prompt's inclusions of that module. Names that the schema
 * does not have are reported.
 */
export function withData(
  schema: Schema,
  prompt: Prompt,
  data: Data,
): { readonly prompt: Prompt; readonly diagnostics: readonly Diagnostic[] } {
  const { diagnostics, report } = diagnosticList();
  const variables = variablesOf(schema);
  const values: Record<string, string> = { ...prompt.values };
  const modules: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(data)) {
    const variable = variables.get(name);
    if (!variable) modules[name] = value;
    else values[name] = valueText(value, variable.type, `variable \`${name}\``, report);
  }
  const own = prompt.children.filter((child) => child.kind !== "include");
  const comments = own.filter((_, i) => own.slice(0, i + 1).every(({ kind }) => kind === "comment"));
  const includes = merge(
    prompt.children.filter((child) => child.kind === "include"),
    modules,
    { scope: schema.children, path: "", report },
  );
  const words: readonly PromptNode[] = own.slice(comments.length);
  return { prompt: { ...prompt, values, children: [...comments, ...includes, ...words] }, diagnostics };
}

type Context = { readonly scope: readonly SchemaNode[]; readonly path: string; readonly report: Report };

function merge(includes: readonly Include[], data: Data, context: Context): Include[] {
  const modules = modulesIn(context.scope);
  const merged = new Map<string, readonly Include[]>();
  for (const include of includes) merged.set(include.name, [...(merged.get(include.name) ?? []), include]);
  for (const [name, value] of Object.entries(data)) {
    const module = modules.get(name)?.module;
    const path = pathWithin(context.path, name);
    const empty: Include = { kind: "include", name, arguments: {}, children: [] };
    const filled = (include: Include, values: Data) => fill(include, values, { ...context, scope: module?.children ?? [], path });
    const given = merged.get(name) ?? [empty];
    if (value === false) merged.delete(name);
    // A name that the schema does not have is reported when the prompt is checked.
    else if (value === true || !module) merged.set(name, given);
    else if (isData(value))
      merged.set(
        name,
        given.map((include) => filled(include, value)),
      );
    else if (isList(value) && module?.repeat !== undefined) {
      merged.set(
        name,
        value.flatMap((each) => (each === false ? [] : [each === true ? empty : filled(empty, each)])),
      );
    } else {
      const list = module?.repeat === undefined ? "" : ", or a list of these";
      context.report(
        "bad-value",
        `the value of \`${path}\` is ${JSON.stringify(value)}; a module takes true, false, or an object of its arguments${list}`,
      );
    }
  }
  return [...merged.values()].flat();
}

function fill(include: Include, values: Data, context: Context): Include {
  const parameters = parametersIn(context.scope);
  const given: Record<string, string> = { ...include.arguments };
  const nested: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(values)) {
    const parameter = parameters.get(name);
    if (parameter) given[name] = valueText(value, parameter.type, `\`${pathWithin(context.path, name)}\``, context.report);
    else if (typeof value === "string" || typeof value === "number") given[name] = String(value);
    else nested[name] = value;
  }
  const inner = include.children.filter((child) => child.kind === "include");
  return { ...include, arguments: given, children: merge(inner, nested, context) };
}

/** A value in place of one that is reported, so that it is not reported again. */
const STAND_IN = { text: "", number: "0", boolean: "false" } as const;
const TAKES = { text: "text or a number", number: "a number", boolean: "true or false" } as const;

/** A value as the prompt would write it. Text is checked against the type later. */
function valueText(value: unknown, type: ParameterType | VariableType, name: string, report: Report): string {
  const fits =
    type === "boolean" ? typeof value === "boolean" : typeof value === "number" || (type === "text" && typeof value === "string");
  if (fits) return String(value);
  report("bad-value", `the value of ${name} is ${JSON.stringify(value)}; it takes ${TAKES[type]}`);
  return STAND_IN[type];
}

function isData(value: unknown): value is Data {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isList(value: unknown): value is readonly (boolean | Data)[] {
  return Array.isArray(value) && value.every((each) => typeof each === "boolean" || isData(each));
}
