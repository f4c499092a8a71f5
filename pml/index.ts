/**
 * PML, the Prompt Markup Language (after Prompt Cache, Gim et al., MLSys 2024): markup -> tree -> layout -> plan.
 *
 *     const files = ["trip.pml", "packing.pml"].map((file) => readMarkup(file));
 *     const { files: [{ layout }, { compiled }], diagnostics } = compileMarkup(files, { language });
 */
export { compileWithin } from "./budget.js";
export * from "./builder.js";
export { checkSchema } from "./check.js";
export { type CheckedPrompt, checkPrompt, type Included } from "./check-prompt.js";
export { formatBuilder } from "./code.js";
export { type Compiled, type CompiledPrompt, type CompileOptions, compilePrompt, type Segment } from "./compile.js";
export { type Data, withData } from "./data.js";
export { type Description, describe } from "./describe.js";
export {
  DIAGNOSTIC_CODES,
  type Diagnostic,
  type DiagnosticCode,
  hasErrors,
  renderDiagnostics,
  type Severity,
  throwOnErrors,
} from "./diagnostic.js";
export { checkDocuments, type Documents } from "./documents.js";
export { type Completion, completionsAt, type Draft, definitionOf, draftOf, type Reference, referenceAt } from "./editor.js";
export { type ExportMessage, type ExportPart, messagesOf, toAnthropic, toOpenAi } from "./export.js";
export { type Files, folderFiles, type ReadFile } from "./files.js";
export { formatPml } from "./format.js";
export { type Imported, importPromptCache } from "./import.js";
export { importJinja } from "./jinja.js";
export {
  blockNames,
  blocksOf,
  type LaidBlock,
  type LaidSchema,
  type Layout,
  type LayoutOptions,
  layoutSchema,
  type ModuleLayout,
  type ScaffoldLayout,
} from "./layout.js";
export { type ParsedPrompt, type ParsedSchema, type ParseOptions, parseMarkup, parsePrompt, parseSchema } from "./parse.js";
export { type CompiledMarkup, checkMarkupUsage, compileMarkup, type MarkupLanguage, type MarkupOptions } from "./pipeline.js";
export {
  type Markup,
  type OpenOptions,
  openMarkup,
  type ReadOptions,
  type ReadSchema,
  readMarkup,
  readPrompt,
  readSchema,
} from "./read.js";
export { naturalPlan, type RenderedPart, renderPrompt, textOfPrompt } from "./render.js";
export { type ResolvedSchema, type ResolveOptions, resolveSchema } from "./resolve.js";
export { schemaPath } from "./scope.js";
export { type Place, placeOf } from "./source.js";
export type * from "./tree.js";
export { checkUsage } from "./usage.js";
