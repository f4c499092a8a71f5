import { checkPrompt } from "./check-prompt.js";
import { type Compiled, type CompiledPrompt, type CompileOptions, compilePrompt } from "./compile.js";
import { type Diagnostic, diagnosticList, hasErrors } from "./diagnostic.js";
import { type LayoutOptions, layoutSchema } from "./layout.js";
import { modulesIn, pathWithin, schemaPath } from "./scope.js";
import type { Include, Module, Prompt, Schema, SchemaNode } from "./tree.js";

/**
 * A prompt of at most `budget` tokens: while it has more, the included module of the lowest `priority` is left out; among
 * equals, the last. It is removed from the schema, so that no gap remains in the positions. The blocks of other modules
 * do not change, except that of a module around it, whose text moves together, and with `context="all"` those of later modules.
 * Modules without a priority are never left out.
 */
export function compileWithin(schema: Schema, prompt: Prompt, budget: number, options: LayoutOptions & CompileOptions): CompiledPrompt {
  const { diagnostics, report } = diagnosticList();
  let [tree, asked] = [schema, prompt];
  for (;;) {
    const laid = layoutSchema(tree, options);
    if (!laid.layout) return { diagnostics: laid.diagnostics };
    const result = compilePrompt(laid.layout, asked, options);
    const tokens = result.compiled ? tokensOf(result.compiled) : 0;
    if (!result.compiled || tokens <= budget) return withDiagnostics(result, diagnostics);
    const last = lowest(tree, asked);
    if (!last) {
      report(
        "prompt-too-long",
        `the prompt has ${tokens} tokens even without the modules that may be left out; ${budget} are allowed`,
        prompt.origin,
      );
      return { diagnostics: [...result.diagnostics, ...diagnostics] };
    }
    report(
      "module-left-out",
      `module \`${last.path}\` is left out: the prompt has ${tokens} tokens with it, and ${budget} are allowed`,
      last.include.origin ?? prompt.origin,
    );
    tree = { ...tree, children: without(tree.children, schemaPath(last.path)) };
    asked = {
      ...asked,
      children: asked.children
        .filter((child) => child.kind !== "include" || child !== last.include)
        .map((child) => (child.kind === "include" ? pruned(child, last.include) : child)),
    };
  }
}

function withDiagnostics({ compiled, diagnostics: found }: CompiledPrompt, before: readonly Diagnostic[]): CompiledPrompt {
  const diagnostics = [...before, ...found];
  return { diagnostics, ...(compiled && !hasErrors(diagnostics) && { compiled }) };
}

function tokensOf({ cachedTokens, computedTokens }: Compiled): number {
  return cachedTokens + computedTokens;
}

function lowest(
  schema: Schema,
  prompt: Prompt,
): { readonly path: string; readonly include: Include; readonly priority: number } | undefined {
  const { included } = checkPrompt(schema, prompt);
  const candidates = [...included].flatMap(([path, include]) => {
    const priority = moduleAt(schema.children, schemaPath(path).split("/"))?.priority;
    return priority === undefined ? [] : [{ path, include, priority }];
  });
  return candidates.reduce<(typeof candidates)[number] | undefined>(
    (found, each) => (found && found.priority < each.priority ? found : each),
    undefined,
  );
}

function moduleAt(children: readonly SchemaNode[], [name = "", ...inner]: readonly string[]): Module | undefined {
  const module = modulesIn(children).get(name)?.module;
  return inner.length === 0 ? module : module && moduleAt(module.children, inner);
}

/** @param path of a module; of a repeated one, one repetition is removed */
function without(children: readonly SchemaNode[], path: string, outer = ""): readonly SchemaNode[] {
  return children.flatMap((node): readonly SchemaNode[] => {
    if (node.kind === "module") {
      const here = pathWithin(outer, node.name);
      if (here === path) return (node.repeat ?? 1) > 1 ? [{ ...node, repeat: node.repeat! - 1 }] : [];
      return [{ ...node, children: without(node.children, path, here) }];
    }
    if (node.kind === "union") return [{ ...node, children: without(node.children, path, outer) as typeof node.children }];
    if (node.kind === "message") return [{ ...node, children: without(node.children, path, outer) }];
    // Modules of an incomplete scaffold are encoded separately.
    if (node.kind === "scaffold" && node.modules.some((each) => pathWithin(outer, each) === path)) return [];
    return [node];
  });
}

function pruned(include: Include, gone: Include): Include {
  return {
    ...include,
    children: include.children.filter((child) => child !== gone).map((child) => (child.kind === "include" ? pruned(child, gone) : child)),
  };
}
