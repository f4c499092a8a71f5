import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { InvalidArgumentError } from "commander";
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
  openMarkup,
  readMarkup,
  renderDiagnostics,
} from "../pml/index.js";
import { linkTokensOf } from "../rag/index.js";

/** The options of every command that reads schemas. */
export type ReadOptions = {
  readonly allowOutside?: boolean;
  /** A JSON file of values for the prompt. */ readonly data?: string;
  /** Tokens that the prompt may have. */ readonly budget?: number;
};

/** Stands for standard input where a file is named. */
const STDIN = "-";

/** Markup of a file, or of standard input, whose paths are relative to the working folder. */
export function readFile(file: string, options: ReadOptions): Markup {
  if (file !== STDIN) return readMarkup(file, options);
  return openMarkup(readFileSync(0), { file: "stdin", files: folderFiles(".", options), from: resolve("stdin") });
}

export function positiveNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("Give a whole number from 1.");
  return Number(text);
}

export function languageOf({ tokenizer, chat, contextLength, card }: Language): MarkupLanguage {
  return { tokenizer, chat, contextLength, linkTokens: linkTokensOf({ tokenizer, card }) };
}

/** Writes warnings to stderr. @throws KvspliceError `bad_markup` with all diagnostics when one is an error */
function tellDiagnostics(diagnostics: readonly Diagnostic[], corpus: boolean): void {
  if (diagnostics.length === 0) return;
  const told = renderDiagnostics(diagnostics);
  if (!hasErrors(diagnostics)) return void process.stderr.write(`${told}\n`);
  const hint =
    !corpus && diagnostics.some(({ code }) => code === "unknown-document")
      ? "\nDocuments come from a corpus: --corpus DIR names the folder that kvsplice precompute filled."
      : "";
  throw new KvspliceError("bad_markup", `Mend the markup first:\n${told}${hint}`);
}

/** A schema and, where one is named, a prompt of it. @throws KvspliceError for what the files lack */
export async function openSchema(
  schemaFile: string,
  promptFile: string | undefined,
  language: Language,
  documents: Documents | undefined,
  options: ReadOptions,
) {
  const files = [schemaFile, ...(promptFile === undefined ? [] : [promptFile])].map((file) => readFile(file, options));
  mustBe("schema", files[0]);
  mustBe("prompt", files[1]);
  const data = options.data === undefined ? undefined : readData(options.data);
  const checked = compileMarkup(files, {
    language: languageOf(language),
    ...(documents && { documents }),
    ...(data && { data }),
    ...(options.budget !== undefined && { budget: options.budget }),
  });
  tellDiagnostics(checked.diagnostics, documents !== undefined);
  const layout = checked.files[0]?.layout;
  if (!layout) throw new KvspliceError("bad_markup", `${schemaFile} has no schema; kvsplice pml check ${schemaFile} tells why.`);
  return { layout, compiled: checked.files[1]?.compiled };
}

/** @throws KvspliceError `bad_file` for what is not a file of one JSON object */
function readData(file: string): Data {
  let data: unknown;
  try {
    data = JSON.parse(readFileSync(file === STDIN ? 0 : file, "utf8"));
  } catch (cause) {
    throw new KvspliceError("bad_file", `The values in ${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (typeof data === "object" && data !== null && !Array.isArray(data)) return data as Data;
  throw new KvspliceError("bad_file", `${file} holds no JSON object; write {"module": {"parameter": "value"}}.`);
}

function mustBe(kind: "schema" | "prompt", given: Markup | undefined): void {
  if (given === undefined || given.kind === kind || given.kind === "unknown") return;
  throw new KvspliceError(
    "bad_argument",
    `${given.file} holds a ${given.kind}, and a ${kind} is wanted in its place: first the schema's file, then the prompt's.`,
  );
}
