import { KvspliceError, type Language } from "../engine/index.js";
import {
  checkDocuments,
  checkPrompt,
  checkUsage,
  compilePrompt,
  hasErrors,
  layoutSchema,
  readPrompt,
  readSchema,
  renderDiagnostics,
  schema as buildSchema,
  type Compiled,
  type CompileOptions,
  type Diagnostic,
  type Documents,
  type Layout,
  type Prompt,
  type Schema,
} from "../pml/index.js";
import { linkTokensOf } from "../rag/index.js";

/** The options of every command that reads schemas. */
export type ReadOptions = { readonly allowOutside?: boolean };

/** A file of PML, told by its root element; `unknown` where its markup has no tree. */
export type MarkupFile =
  | { readonly kind: "schema"; readonly file: string; readonly schema: Schema; readonly diagnostics: readonly Diagnostic[] }
  | { readonly kind: "prompt"; readonly file: string; readonly prompt: Prompt; readonly diagnostics: readonly Diagnostic[] }
  | { readonly kind: "unknown"; readonly file: string; readonly diagnostics: readonly Diagnostic[] };

export function readMarkup(file: string, options: ReadOptions): MarkupFile {
  const { schema, diagnostics } = readSchema(file, options);
  if (schema) return { kind: "schema", file, schema, diagnostics };
  if (!diagnostics.some(isWrongRoot)) return { kind: "unknown", file, diagnostics };
  const asPrompt = readPrompt(file);
  if (asPrompt.prompt) return { kind: "prompt", file, prompt: asPrompt.prompt, diagnostics: asPrompt.diagnostics };
  if (!asPrompt.diagnostics.some(isWrongRoot)) return { kind: "unknown", file, diagnostics: asPrompt.diagnostics };
  const either = (each: Diagnostic) => (isWrongRoot(each) ? { ...each, message: `${each.message}, and a prompt with \`<prompt>\`` } : each);
  return { kind: "unknown", file, diagnostics: diagnostics.map(either) };
}

function isWrongRoot({ code }: Diagnostic): boolean {
  return code === "wrong-root";
}

export type CheckedFile = {
  readonly kind: MarkupFile["kind"];
  readonly file: string;
  /** Of a schema without errors. */
  readonly layout?: Layout;
  /** Of a prompt without errors, whose schema has none. */
  readonly compiled?: Compiled;
};

export type Checked = { readonly files: readonly CheckedFile[]; readonly diagnostics: readonly Diagnostic[] };

export type CheckOptions = {
  /** Whose tokens are counted; called when there is something to count. */
  readonly language: () => Promise<Language>;
  readonly documents?: Documents;
};

/** Every rule of the language over files that belong together: each prompt against the schema of its name. */
export async function checkMarkup(files: readonly MarkupFile[], { language, documents }: CheckOptions): Promise<Checked> {
  const diagnostics: Diagnostic[] = [];
  const layouts = new Map<MarkupFile, Layout>();
  const checked: CheckedFile[] = [];
  for (const each of files) {
    if (each.kind !== "schema" || hasErrors(each.diagnostics)) continue;
    const { tokenizer, chat, contextLength } = await language();
    const laid = layoutSchema(each.schema, { tokenizer, chat, contextLength });
    if (laid.layout) layouts.set(each, laid.layout);
    diagnostics.push(...laid.diagnostics, ...(documents ? checkDocuments(each.schema, documents) : []));
  }
  const compiling = { ...(documents && { documents }), linkTokens: layouts.size > 0 ? linkTokensOf(await language()) : [] };
  for (const each of files) {
    diagnostics.push(...each.diagnostics);
    const { kind, file } = each;
    if (kind === "prompt") {
      const { compiled, diagnostics: found } = againstSchema(each.prompt, files, layouts, compiling);
      diagnostics.push(...found);
      checked.push({ kind, file, ...(compiled && !hasErrors(each.diagnostics) && { compiled }) });
    } else {
      const layout = layouts.get(each);
      checked.push({ kind, file, ...(layout && { layout }) });
    }
  }
  return { files: checked, diagnostics: inOrder(diagnostics, files) };
}

function againstSchema(
  prompt: Prompt,
  files: readonly MarkupFile[],
  layouts: ReadonlyMap<MarkupFile, Layout>,
  options: CompileOptions,
): { readonly compiled?: Compiled; readonly diagnostics: readonly Diagnostic[] } {
  const schemas = files.filter((each) => each.kind === "schema" && each.schema.name === prompt.schema);
  const [found] = schemas;
  if (found?.kind === "schema" && schemas.length === 1) {
    const layout = layouts.get(found);
    return layout ? compilePrompt(layout, prompt, options) : checkPrompt(found.schema, prompt);
  }
  // A file without a tree may be the schema that is looked for, and a prompt without the attribute is told of already.
  if (prompt.schema === "" || (schemas.length === 0 && files.some(({ kind }) => kind === "unknown"))) return { diagnostics: [] };
  const message =
    schemas.length === 0
      ? `no given file has the schema \`${prompt.schema}\`; name its file too`
      : `${schemas.map(({ file }) => `\`${file}\``).join(" and ")} are both schema \`${prompt.schema}\`; name one of them`;
  const wrong = checkPrompt(buildSchema(""), { ...prompt, children: [] }).diagnostics.filter(({ code }) => code === "wrong-schema");
  return { diagnostics: wrong.map((each) => ({ ...each, message })) };
}

/** Warnings of what no given prompt uses, for the schemas that have a prompt among the files. */
export function checkMarkupUsage(files: readonly MarkupFile[]): readonly Diagnostic[] {
  return files.flatMap((each) => {
    if (each.kind !== "schema") return [];
    const prompts = files.flatMap((other) => (other.kind === "prompt" && other.prompt.schema === each.schema.name ? [other.prompt] : []));
    return prompts.length === 0 ? [] : checkUsage(each.schema, prompts);
  });
}

/** By file in the order given, then by place; once each, as a schema may be given and imported too. */
export function inOrder(diagnostics: readonly Diagnostic[], files: readonly MarkupFile[]): readonly Diagnostic[] {
  const order = new Map(files.map(({ file }, i) => [file, i]));
  const rank = ({ place }: Diagnostic) => (place && order.get(place.file)) ?? order.size;
  const seen = new Set<string>();
  const once = diagnostics.filter(({ code, message, place }) => {
    const key = JSON.stringify([code, message, place?.file, place?.line, place?.column]);
    return !seen.has(key) && seen.add(key);
  });
  return once.sort((a, b) => rank(a) - rank(b) || (a.place?.line ?? 0) - (b.place?.line ?? 0) || (a.place?.column ?? 0) - (b.place?.column ?? 0));
}

/** Writes warnings to stderr. @throws KvspliceError `bad_markup` with all diagnostics when one is an error */
function tellDiagnostics(diagnostics: readonly Diagnostic[], corpus: boolean): void {
  if (diagnostics.length === 0) return;
  const told = renderDiagnostics(diagnostics);
  if (!hasErrors(diagnostics)) return void process.stderr.write(`${told}\n`);
  const hint = !corpus && diagnostics.some(({ code }) => code === "unknown-document")
    ? "\nDocuments come from a corpus: --corpus DIR names the folder that kvsplice precompute filled."
    : "";
  throw new KvspliceError("bad_markup", `Mend the markup first:\n${told}${hint}`);
}

/** A schema and, where one is named, a prompt of it. @throws KvspliceError for what the files lack */
export async function openSchema(schemaFile: string, promptFile: string | undefined, language: Language, documents: Documents | undefined, options: ReadOptions) {
  const files = [schemaFile, ...(promptFile === undefined ? [] : [promptFile])].map((file) => readMarkup(file, options));
  mustBe("schema", files[0]);
  mustBe("prompt", files[1]);
  const checked = await checkMarkup(files, { language: async () => language, ...(documents && { documents }) });
  tellDiagnostics(checked.diagnostics, documents !== undefined);
  const layout = checked.files[0]?.layout;
  if (!layout) throw new KvspliceError("bad_markup", `${schemaFile} has no schema; kvsplice pml check ${schemaFile} tells why.`);
  return { layout, compiled: checked.files[1]?.compiled };
}

function mustBe(kind: "schema" | "prompt", given: MarkupFile | undefined): void {
  if (given === undefined || given.kind === kind || given.kind === "unknown") return;
  throw new KvspliceError("bad_argument", `${given.file} holds a ${given.kind}, and a ${kind} is wanted in its place: first the schema's file, then the prompt's.`);
}
