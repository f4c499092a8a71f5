import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { KvspliceError, type Language } from "../engine/index.js";
import {
  compileMarkup,
  type Data,
  type Diagnostic,
  type Documents,
  folderFiles,
  hasErrors,
  type Markup,
  type MarkupLanguage,
  type MarkupOptions,
  openMarkup,
  readMarkup,
  renderDiagnostics,
} from "../pml/index.js";
import { linkTokensOf } from "../rag/index.js";

/** The options of every command that reads schemas. */
export type ReadOptions = {
  readonly allowOutside?: boolean;
  /** JSON file with values for the prompt. */ readonly data?: string;
  /** Maximum tokens of the prompt. */ readonly budget?: number;
};

/** The file name that stands for standard input. */
export const STDIN = "-";

/** The markup of a file or of standard input. Paths in standard input are relative to the working folder. */
export function readFile(file: string, options: ReadOptions): Markup {
  if (file !== STDIN) return readMarkup(file, options);
  return openMarkup(readFileSync(0), { file: "stdin", files: folderFiles(".", options), from: resolve("stdin") });
}

export function languageOf({ tokenizer, chat, contextLength, card }: Language): MarkupLanguage {
  return { tokenizer, chat, contextLength, linkTokens: linkTokensOf({ tokenizer, card }) };
}

/** Writes warnings to stderr. @throws KvspliceError `bad_markup` with all diagnostics if one is an error */
function tellDiagnostics(diagnostics: readonly Diagnostic[], corpus: boolean): void {
  if (diagnostics.length === 0) return;
  const told = renderDiagnostics(diagnostics);
  if (!hasErrors(diagnostics)) return void process.stderr.write(`${told}\n`);
  const hint =
    !corpus && diagnostics.some(({ code }) => code === "unknown-document")
      ? "\nDocuments come from a corpus. Use --corpus DIR to name the folder that kvsplice precompute filled."
      : "";
  throw new KvspliceError("bad_markup", `Fix these errors in the markup first:\n${told}${hint}`);
}

/** Opens a schema and, if one is named, a prompt for it. @throws KvspliceError if the files are incomplete or invalid */
export async function openSchema(
  schemaFile: string,
  promptFile: string | undefined,
  language: Language,
  documents: Documents | undefined,
  options: ReadOptions,
) {
  const files = readFiles(schemaFile, promptFile === undefined ? [] : [promptFile], options);
  return openFiles(files, markupOptions(language, documents, options));
}

/** How a command's files are compiled; reads `--data`. */
export function markupOptions(language: Language, documents: Documents | undefined, options: ReadOptions): MarkupOptions {
  const data = options.data === undefined ? undefined : readData(options.data);
  return {
    language: languageOf(language),
    ...(documents && { documents }),
    ...(data && { data }),
    ...(options.budget !== undefined && { budget: options.budget }),
  };
}

/** Compiles a schema and, if one is given, a prompt for it. @throws KvspliceError if the files are incomplete or invalid */
export function openFiles(files: readonly Markup[], options: MarkupOptions) {
  const [schema, prompt] = compileFiles(files, options).files;
  if (!schema?.layout) {
    const file = schema?.file;
    throw new KvspliceError("bad_markup", `${file} does not contain a valid schema; kvsplice pml check ${file} shows why.`);
  }
  return { layout: schema.layout, compiled: prompt?.compiled };
}

/** Reads a schema's file and its prompts' files. @throws KvspliceError `bad_argument` if one is of the other kind */
export function readFiles(schemaFile: string, promptFiles: readonly string[], options: ReadOptions): readonly Markup[] {
  const [schema, ...prompts] = [schemaFile, ...promptFiles].map((file) => readFile(file, options));
  mustBe("schema", schema);
  for (const prompt of prompts) mustBe("prompt", prompt);
  return [schema!, ...prompts];
}

/** Compiles files, and writes warnings to stderr. @throws KvspliceError `bad_markup` with all diagnostics if one is an error */
export function compileFiles(files: readonly Markup[], options: MarkupOptions): ReturnType<typeof compileMarkup> {
  const compiled = compileMarkup(files, options);
  tellDiagnostics(compiled.diagnostics, options.documents !== undefined);
  return compiled;
}

/** @throws KvspliceError `bad_file` unless the file contains one JSON object */
export function readData(file: string): Data {
  let data: unknown;
  try {
    data = JSON.parse(readFileSync(file === STDIN ? 0 : file, "utf8"));
  } catch (cause) {
    throw new KvspliceError("bad_file", `The values in ${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (typeof data === "object" && data !== null && !Array.isArray(data)) return data as Data;
  throw new KvspliceError("bad_file", `${file} does not contain a JSON object. Write one like {"module": {"parameter": "value"}}.`);
}

function mustBe(kind: "schema" | "prompt", given: Markup | undefined): void {
  if (given === undefined || given.kind === kind || given.kind === "unknown") return;
  throw new KvspliceError(
    "bad_argument",
    `${given.file} contains a ${given.kind}, but a ${kind} is needed there. Give the schema's file first, then the prompt's.`,
  );
}
