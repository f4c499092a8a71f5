import { checkPrompt } from "./check-prompt.js";
import { type Diagnostic, diagnosticList } from "./diagnostic.js";
import { namedIn, pathWithin, schemaPath } from "./scope.js";
import type { Prompt, Schema, SchemaNode } from "./tree.js";

/**
 * Warns about parts of a schema that no prompt uses: modules that none includes, and parameters that none fills even
 * though it includes their module.
 */
export function checkUsage(schema: Schema, prompts: readonly Prompt[]): readonly Diagnostic[] {
  const { diagnostics, report } = diagnosticList();
  const used = new Set<string>();
  const filled = new Set<string>();
  for (const prompt of prompts) {
    for (const [repeated, include] of checkPrompt(schema, prompt).included) {
      const path = schemaPath(repeated);
      used.add(path);
      for (const argument of Object.keys(include.arguments)) filled.add(pathWithin(path, argument));
    }
  }

  const check = (children: readonly SchemaNode[], outer: string) => {
    for (const { node } of namedIn(children)) {
      const path = pathWithin(outer, node.name);
      if (node.kind === "parameter" && !filled.has(path)) {
        report("unused-parameter", `no given prompt fills \`${node.name}\` of \`${outer}\``, node.origin);
      } else if (node.kind === "module") {
        if (used.has(path)) check(node.children, path);
        else report("unused-module", `no given prompt includes \`${path}\``, node.origin);
      }
    }
  };
  check(schema.children, "");
  return diagnostics;
}
