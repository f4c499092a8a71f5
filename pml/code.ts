import type { Include, Prompt, PromptNode, Schema, SchemaNode } from "./tree.js";

const INDENT = "  ";

type Node = SchemaNode | PromptNode;

/**
 * A tree as a TypeScript module that builds it (builder.ts) and exports it by default. Comments before the element
 * and within a prompt's includes stay out: the builder has no place for them.
 */
export function formatBuilder(tree: Schema | Prompt): string {
  const used = new Set<string>();
  const expression = tree.kind === "schema" ? schemaCode(tree, used) : promptCode(tree, used);
  const names = [...used].sort().join(", ");
  return `import { ${names} } from "kvsplice/pml";\n\nexport default ${expression};\n`;
}

function schemaCode({ name, space, wrap, children }: Schema, used: Set<string>): string {
  return call("schema", [quote(name), ...optionsCode({ space, wrap }), ...contentCode(children, 1, used)], 0, used);
}

function promptCode({ schema, space, wrap, children }: Prompt, used: Set<string>): string {
  const includes = children.filter((child) => child.kind === "include");
  const words = children.filter(({ kind }) => kind !== "include");
  const given = [quote(schema), inclusionCode(includes), ...optionsCode({ space, wrap }), ...contentCode(words, 1, used)];
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
      const { name, src, cache, priority, space, wrap } = node;
      return call(
        "module",
        [quote(name), ...optionsCode({ src, cache: cache && undefined, priority, space, wrap }), ...content()],
        depth,
        used,
      );
    }
    case "union":
      return call("union", content(), depth, used);
    case "parameter": {
      const { name, length, default: value, overflow } = node;
      return call(
        "parameter",
        [quote(name), ...optionsCode({ length, default: value, overflow: overflow === "error" ? undefined : overflow })],
        depth,
        used,
      );
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
    case "file":
    case "include":
      return "";
  }
}

function inclusionCode(includes: readonly Include[]): string {
  const entries = includes.map(({ name, arguments: given, children }) => {
    const parameters = Object.entries(given).map(([key, value]) => `${quote(key)}: ${quote(value)}`);
    const nested = children.filter((child) => child.kind === "include");
    const fields = [...parameters, ...(nested.length > 0 ? [inclusionCode(nested).slice(2, -2)] : [])];
    return `${quote(name)}: ${fields.length === 0 ? "true" : `{ ${fields.join(", ")} }`}`;
  });
  return entries.length === 0 ? "{}" : `{ ${entries.join(", ")} }`;
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
