import type { Compiled } from "./compile.js";
import type { Documents } from "./documents.js";
import type { Layout, ModuleLayout } from "./layout.js";

/** A schema's layout as plain data, for output and programs. Positions are half-open: `[start, end)`. */
export type Description = {
  readonly kind: "schema" | "module" | "union" | "parameter" | "document";
  /** Empty for a union; a document's `ref`. */
  readonly name: string;
  /** Absent for documents: they have no fixed place. */
  readonly start?: number;
  readonly end?: number;
  /** Tokens of its own text: a module's without nested modules and parameters; a parameter's length; 0 for an unknown document. */
  readonly tokens: number;
  readonly cached: boolean;
  /** Tokens before it that its block saw; absent if none. */
  readonly sees?: number;
  /** How many times a prompt may include a repeated module. */
  readonly repeat?: number;
  /** Whether the prompt includes it; absent without a prompt. */
  readonly included?: boolean;
  /** Number of modules within it, at any depth: for a tree that is not shown in full. */
  readonly modules: number;
  readonly children: readonly Description[];
};

/**
 * A layout as a tree of plain data, for display: each module with its tokens and positions, and whether a prompt includes it.
 *
 * @param documents for their token counts, if wanted; must know every document of the schema
 */
export function describe(layout: Layout, prompt?: Pick<Compiled, "modules">, documents?: Documents): Description {
  return describeModule(layout.root, prompt && new Set(["", ...prompt.modules]), documents);
}

function describeModule(module: ModuleLayout, included: ReadonlySet<string> | undefined, documents: Documents | undefined): Description {
  const { node, path, start, length, cached, own, block, seen, parts } = module;
  const inclusion = included && { included: included.has(path) };
  const children = parts.flatMap((part): Description[] => {
    switch (part.kind) {
      case "text":
        return [];
      case "module":
        return isShown(part.module, included) ? [describeModule(part.module, included, documents)] : [];
      case "union": {
        const members = part.members
          .filter((member) => isShown(member, included))
          .map((member) => describeModule(member, included, documents));
        const chosen = included && { included: members.some((member) => member.included) };
        const modules = members.reduce((sum, member) => sum + member.modules + 1, 0);
        const place = { start: part.start, end: part.start + part.length };
        return [{ kind: "union", name: "", ...place, tokens: 0, cached: true, ...chosen, modules, children: members }];
      }
      case "parameter": {
        const { name, length: tokens } = part.parameter;
        const place = { start: part.at, end: part.at + tokens };
        return [{ kind: "parameter", name, ...place, tokens, cached: false, ...inclusion, modules: 0, children: [] }];
      }
      case "document": {
        const tokens = documents?.(part.node.ref)?.tokens.length ?? 0;
        return [{ kind: "document", name: part.node.ref, tokens, cached: true, ...inclusion, modules: 0, children: [] }];
      }
    }
  });
  return {
    kind: node.kind,
    name: node.name,
    start,
    end: start + length,
    tokens: own.tokens.length,
    cached,
    ...(block && seen && { sees: seen.length }),
    ...(node.kind === "module" && node.repeat !== undefined && { repeat: node.repeat }),
    ...inclusion,
    modules: children.reduce((sum, child) => sum + child.modules + (child.kind === "module" ? 1 : 0), 0),
    children,
  };
}

/** Of a repeated module, the first and those that the prompt includes. */
function isShown({ path }: ModuleLayout, included: ReadonlySet<string> | undefined): boolean {
  return !/#\d+$/.test(path) || included?.has(path) === true;
}
