import type { Include, Prompt, PromptNode, Schema, SchemaNode } from "./tree.js";

const INDENT = "  ";

type Node = SchemaNode | PromptNode;

/**
 * A tree as a TypeScript module that builds it (builder.ts) and exports it by default. Comments before the element
 * and within a prompt's includes are left out: the builder has no place for them.
 */
export function formatBuilder(tree: Schema | Prompt): string {
  const used = new Set<string>();
  const expression = tree.kind === "schema" ? schemaCode(tree, used) : promptCode(tree, used);
  const names = [...used].sort().join(", ");
  return `import { ${names} } from "kvsplice/pml";\n\nexport default ${expression};\n`;
}

function schemaCode({ name, context, space, wrap, children }: Schema, used: Set<string>): string {
  return call("schema", [quote(name), ...optionsCode({ context, space, wrap }), ...contentCode(children, 1, used)], 0, used);
}

function promptCode({ schema, values, space, wrap, children }: Prompt, used: Set<string>): string {
  const includes = children.filter((child) => child.kind === "include");
  const words = children.filter(({ kind }) => kind !== "include");
  const given = [quote(schema), inclusionCode(includes, values), ...optionsCode({ space, wrap }), ...contentCode(words, 1, used)];
  return call("prompt", given, 0, used);
}

function contentCode(children: readonly Node[], depth: number, used: Set<string>): string[] {
  return children.map((child) => nodeCode(child, depth, used)).filter((code) => code !== "");
}

function nodeCode(node: Node, depth: number, used: Set<string>): string {
  const content = () => ("children" in node ? contentCode(node.children, depth + 1, used) : []);
  switch (node.kind) {
    case "text":
      return quote(node.text);
    case "comment":
      return call("comment", [quote(node.text)], depth, used);
    case "module": {
      const { name, src, cache, priority, context, repeat, if: condition, space, wrap } = node;
      const options = { src, cache: cache && undefined, priority, context, repeat, if: condition, space, wrap };
      return call("module", [quote(name), ...optionsCode(options), ...content()], depth, used);
    }
    case "union":
      return call("union", [...optionsCode({ default: node.default }), ...content()], depth, used);
    case "parameter": {
      const { name, variable, length, type, default: value, placeholder, overflow } = node;
      const options = {
        length,
        type: type === "text" ? undefined : type,
        default: value,
        placeholder,
        overflow: overflow === "error" ? undefined : overflow,
      };
      return call(variable ? "valueOf" : "parameter", [quote(name), ...optionsCode(options)], depth, used);
    }
    case "message":
      return call(
        node.role,
        [...optionsCode({ open: node.open || undefined, space: node.space, wrap: node.wrap }), ...content()],
        depth,
        used,
      );
    case "scaffold":
      return call("scaffold", [quote(node.name), `[${node.modules.map(quote).join(", ")}]`], depth, used);
    case "import":
      return call("importSchema", [quote(node.schema)], depth, used);
    case "document":
      return call("document", [quote(node.ref)], depth, used);
    case "variable": {
      const { name, type, default: value } = node;
      return call("variable", [quote(name), ...optionsCode({ type: type === "text" ? undefined : type, default: value })], depth, used);
    }
    case "file":
    case "include":
      return "";
  }
}

/** Modules by name, several of the same name as a list, and values of a prompt's variables. */
function inclusionCode(includes: readonly Include[], values: Readonly<Record<string, string>> = {}): string {
  const fields = Object.entries(values).map(([name, value]) => `${quote(name)}: ${quote(value)}`);
  for (const name of new Set(includes.map((include) => include.name))) {
    const each = includes.filter((include) => include.name === name).map(includeCode);
    fields.push(`${quote(name)}: ${each.length > 1 ? `[${each.join(", ")}]` : each[0]}`);
  }
  return fields.length === 0 ? "{}" : `{ ${fields.join(", ")} }`;
}

function includeCode({ arguments: given, children }: Include): string {
  const nested = children.filter((child) => child.kind === "include");
  const code = inclusionCode(nested, given);
  return code === "{}" ? "true" : code;
}

function optionsCode(options: Readonly<Record<string, string | number | boolean | undefined>>): string[] {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return given.length === 0 ? [] : [`{ ${given.map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join(", ")} }`];
}

function call(name: string, given: readonly string[], depth: number, used: Set<string>): string {
  used.add(name);
  const short = `${name}(${given.join(", ")})`;
  if (!short.includes("\n") && short.length + depth * INDENT.length <= 100) return short;
  const indent = INDENT.repeat(depth);
  return `${name}(\n${given.map((each) => `${indent}${INDENT}${each},\n`).join("")}${indent})`;
}

function quote(text: string): string {
  return JSON.stringify(text);
}
