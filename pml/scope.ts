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
