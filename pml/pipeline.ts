import type { Tokenizer } from "../plan/index.js";
import { compileWithin } from "./budget.js";
import { checkPrompt } from "./check-prompt.js";
import { type Compiled, type CompiledPrompt, compilePrompt } from "./compile.js";
import { type Data, withData } from "./data.js";
import { type Diagnostic, hasErrors } from "./diagnostic.js";
import { checkDocuments, type Documents } from "./documents.js";
import { type Layout, type LayoutOptions, layoutSchema } from "./layout.js";
import type { Markup } from "./read.js";
import { attributeSpans, placeOf } from "./source.js";
import type { Prompt } from "./tree.js";
import { checkUsage } from "./usage.js";

/** The parts of a model that PML is compiled with. */
export type MarkupLanguage = LayoutOptions & {
  readonly tokenizer: Tokenizer;
  /** Token ids that follow every document. */
  readonly linkTokens: readonly number[];
};

/** Options for checking and compiling markup. */
export type MarkupOptions = {
  /** Without it nothing is counted, laid out or compiled: only rules are checked. */
  readonly language?: MarkupLanguage;
  /** Without it, documents are unknown. */
  readonly documents?: Documents;
  /** Values for the prompts; none by default. */
  readonly data?: Data;
  /** Maximum tokens of each prompt: modules with a priority are left out until it fits. */
  readonly budget?: number;
};

/** Markup after all stages that the options and its errors allow. */
export type CompiledMarkup = {
  readonly kind: Markup["kind"];
  readonly file: string;
  /** For a schema without errors. */
  readonly layout?: Layout;
  /** For a prompt without errors whose schema has none either. */
  readonly compiled?: Compiled;
};

/**
 * Checks, lays out and compiles files that belong together, each prompt against the schema it names, as far as
 * each can be understood. The commands, the server and the playground all report its results.
 */
export function compileMarkup(
  files: readonly Markup[],
  { language, documents, data, budget }: MarkupOptions,
): { readonly files: readonly CompiledMarkup[]; readonly diagnostics: readonly Diagnostic[] } {
  const diagnostics: Diagnostic[] = [];
  const layouts = new Map<Markup, Layout>();
  for (const each of files) {
    if (each.kind !== "schema" || hasErrors(each.diagnostics) || !language) continue;
    const laid = layoutSchema(each.schema, language);
    if (laid.layout) layouts.set(each, laid.layout);
    diagnostics.push(...laid.diagnostics, ...(documents ? checkDocuments(each.schema, documents) : []));
  }
  const compiled = files.map((each): CompiledMarkup => {
    diagnostics.push(...each.diagnostics);
    const { kind, file } = each;
    const layout = layouts.get(each);
    if (kind !== "prompt") return { kind, file, ...(layout && { layout }) };
    const found = againstSchema(each.prompt, { data, budget, language }, files, layouts, {
      ...(language && { linkTokens: language.linkTokens }),
      ...(documents && { documents }),
    });
    diagnostics.push(...found.diagnostics);
    return { kind, file, ...(found.compiled && !hasErrors(each.diagnostics) && { compiled: found.compiled }) };
  });
  return { files: compiled, diagnostics: inOrder(diagnostics, files) };
}

function againstSchema(
  written: Prompt,
  { data, budget, language }: { readonly [Key in "data" | "budget" | "language"]: MarkupOptions[Key] | undefined },
  files: readonly Markup[],
  layouts: ReadonlyMap<Markup, Layout>,
  options: Parameters<typeof compilePrompt>[2],
): { readonly compiled?: Compiled; readonly diagnostics: readonly Diagnostic[] } {
  const given = files.filter((each) => each.kind === "schema");
  const named = given.filter(({ schema }) => schema.name === written.schema);
  const [found] = named;
  if (found && named.length === 1) {
    const layout = layouts.get(found);
    const { prompt, diagnostics } = data ? withData(found.schema, written, data) : { prompt: written, diagnostics: [] };
    const compiled: CompiledPrompt =
      !layout || !language
        ? checkPrompt(found.schema, prompt)
        : budget === undefined
          ? compilePrompt(layout, prompt, options)
          : compileWithin(found.schema, prompt, budget, { ...language, ...options });
    const all = [...diagnostics, ...compiled.diagnostics];
    return { diagnostics: all, ...(compiled.compiled && !hasErrors(all) && { compiled: compiled.compiled }) };
  }
  // A file without a tree may be the missing schema, and a prompt without the attribute is already reported.
  if (written.schema === "" || (!found && files.some(({ kind }) => kind === "unknown"))) return { diagnostics: [] };
  const span = attributeSpans(written.origin, "schema").value;
  return {
    diagnostics: [
      { code: "wrong-schema", severity: "error", message: wrongSchema(written, given, named), ...(span && { place: placeOf(span) }) },
    ],
  };
}

type SchemaFile = Extract<Markup, { kind: "schema" }>;

function wrongSchema({ schema }: Prompt, given: readonly SchemaFile[], named: readonly SchemaFile[]): string {
  if (named.length > 0)
    return `${named.map(({ file }) => `\`${file}\``).join(" and ")} both define schema \`${schema}\`; name only one of them`;
  const [only] = given;
  if (only && given.length === 1) return `this prompt is written for schema \`${schema}\`, but the given schema is \`${only.schema.name}\``;
  return `none of the given files defines schema \`${schema}\`; name its file too`;
}

/** Warnings about what no given prompt uses, with a program's values, for schemas with a prompt among the files. */
export function checkMarkupUsage(files: readonly Markup[], data: Data = {}): readonly Diagnostic[] {
  const found = files.flatMap((each) => {
    if (each.kind !== "schema") return [];
    const prompts = files.flatMap((other) =>
      other.kind === "prompt" && other.prompt.schema === each.schema.name ? [withData(each.schema, other.prompt, data).prompt] : [],
    );
    return prompts.length === 0 ? [] : checkUsage(each.schema, prompts);
  });
  return inOrder(found, files);
}

/** By file in the order given, then by place; without duplicates, since a schema may be both given and imported. */
function inOrder(diagnostics: readonly Diagnostic[], files: readonly Markup[]): readonly Diagnostic[] {
  const order = new Map(files.map(({ file }, i) => [file, i]));
  const rank = ({ place }: Diagnostic) => (place && order.get(place.file)) ?? order.size;
  const seen = new Set<string>();
  const once = diagnostics.filter(({ code, message, place }) => {
    const key = JSON.stringify([code, message, place?.file, place?.line, place?.column]);
    return !seen.has(key) && seen.add(key);
  });
  return once.sort(
    (a, b) => rank(a) - rank(b) || (a.place?.line ?? 0) - (b.place?.line ?? 0) || (a.place?.column ?? 0) - (b.place?.column ?? 0),
  );
}
