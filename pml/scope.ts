import type { Module, Parameter, Scaffold, SchemaNode, Union } from "./tree.js";

/**
 * What names mean. A module's scope holds the modules, parameters and scaffolds of its content; unions and messages
 * are transparent, nested modules have scopes of their own. The schema is the outermost scope.
 */
export type Named = { readonly node: Module | Parameter | Scaffold; readonly union?: Union };

export function* namedIn(children: readonly SchemaNode[]): Generator<Named> {
  for (const node of children) {
    if (node.kind === "module" || node.kind === "parameter" || node.kind === "scaffold") yield { node };
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

/** `modulesIn` that looks through every scope once. */
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

/** Path of a module within its schema: the names from the outermost one to its own, with `/` between them. */
export function pathWithin(outer: string, name: string): string {
  return outer === "" ? name : `${outer}/${name}`;
}

/** The text of a module that has `src` and lines to itself: what ends its last line. */
export const LINE_END = "\n";

/** What stands in a module that takes its text from a file, the file's text aside: content that may not. */
export function contentBeside({ children }: Module): readonly SchemaNode[] {
  return children.filter(
    (child) => child.kind !== "comment" && child.kind !== "file" && !(child.kind === "text" && child.text === LINE_END),
  );
}

/** Whether a message stands among the nodes, at any depth. */
export function hasMessages(nodes: readonly SchemaNode[]): boolean {
  return nodes.some((node) => node.kind === "message" || ((node.kind === "module" || node.kind === "union") && hasMessages(node.children)));
}

/** The first text, file or parameter that stands outside of messages, with the outermost module that it is in. */
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
