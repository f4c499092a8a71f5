import type { Module, Parameter, Scaffold, Schema, SchemaNode, Union, Variable } from "./tree.js";

/**
 * What names mean. A module's scope contains the modules, parameters and scaffolds of its content; unions and messages
 * are transparent, nested modules have their own scopes. The schema is the outermost scope and also contains its
 * variables. A parameter filled from a variable has no name of its own.
 */
export type Named = { readonly node: Module | Parameter | Scaffold | Variable; readonly union?: Union };

export function* namedIn(children: readonly SchemaNode[]): Generator<Named> {
  for (const node of children) {
    if (node.kind === "module" || node.kind === "scaffold" || node.kind === "variable") yield { node };
    else if (node.kind === "parameter" && !node.variable) yield { node };
    else if (node.kind === "message") yield* namedIn(node.children);
    else if (node.kind === "union") {
      for (const member of node.children) if (member.kind === "module") yield { node: member, union: node };
    }
  }
}

export type ScopedModule = { readonly module: Module; readonly union?: Union };

export function modulesIn(children: readonly SchemaNode[]): Map<string, ScopedModule> {
  const modules = new Map<string, ScopedModule>();
  for (const { node, ...rest } of namedIn(children)) {
    if (node.kind === "module" && !modules.has(node.name)) modules.set(node.name, { module: node, ...rest });
  }
  return modules;
}

/** A `modulesIn` that searches each scope only once. */
export function moduleLookup(): typeof modulesIn {
  const scopes = new Map<readonly SchemaNode[], Map<string, ScopedModule>>();
  return (children) => {
    const modules = scopes.get(children) ?? modulesIn(children);
    scopes.set(children, modules);
    return modules;
  };
}

export function parametersIn(children: readonly SchemaNode[]): Map<string, Parameter> {
  const parameters = new Map<string, Parameter>();
  for (const { node } of namedIn(children)) if (node.kind === "parameter") parameters.set(node.name, node);
  return parameters;
}

export function variablesOf({ children }: Schema): Map<string, Variable> {
  return new Map(children.flatMap((node) => (node.kind === "variable" ? [[node.name, node] as const] : [])));
}

/** Name of each repetition of a module in paths; the first has the module's own name. */
export function repetition(name: string, index: number): string {
  return index === 0 ? name : `${name}#${index + 1}`;
}

/** A path without numbers of repetitions: the module's path in the schema. */
export function schemaPath(path: string): string {
  return path.replace(/#\d+/g, "");
}

/** Path of a module within its schema: the names from the outermost module to this one, joined by `/`. */
export function pathWithin(outer: string, name: string): string {
  return outer === "" ? name : `${outer}/${name}`;
}

/** Ends the last line of a module that has `src` and lines to itself. */
export const LINE_END = "\n";

/** Content that a module with `src` must not have: everything besides the file's text. */
export function contentBeside({ children }: Module): readonly SchemaNode[] {
  return children.filter(
    (child) => child.kind !== "comment" && child.kind !== "file" && !(child.kind === "text" && child.text === LINE_END),
  );
}

/** Whether the nodes contain a message, at any depth. */
export function hasMessages(nodes: readonly SchemaNode[]): boolean {
  return nodes.some((node) => node.kind === "message" || ((node.kind === "module" || node.kind === "union") && hasMessages(node.children)));
}

/** The first text, file or parameter outside messages, with its outermost module. */
export function textOutsideMessages(
  nodes: readonly SchemaNode[],
  module?: Module,
): { readonly node: SchemaNode; readonly module?: Module } | undefined {
  for (const node of nodes) {
    const isText = node.kind === "parameter" || ((node.kind === "text" || node.kind === "file") && node.text.trim() !== "");
    if (isText) return { node, ...(module && { module }) };
    const found =
      node.kind === "module"
        ? textOutsideMessages(node.children, module ?? node)
        : node.kind === "union"
          ? textOutsideMessages(node.children, module)
          : undefined;
    if (found) return found;
  }
  return undefined;
}
