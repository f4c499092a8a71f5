import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import { checkSchema } from "./check.js";
import { type Diagnostic, diagnosticList } from "./diagnostic.js";
import { type Files, folderFiles } from "./files.js";
import { type ParsedPrompt, type ParsedSchema, parseMarkup, parsePrompt, parseSchema } from "./parse.js";
import { resolveSchema } from "./resolve.js";
import { sourceText } from "./source.js";
import type { Prompt, Schema } from "./tree.js";

export type ReadOptions = {
  /** Where files come from: the disk's, within the schema's folder, when left out. */
  readonly files?: Files;
  /** Read `src` and imports from outside of the schema's folder too. Says nothing about `files` of one's own. */
  readonly allowOutside?: boolean;
};

/** Markup of either kind, told by its root element; `unknown` where it has no tree. */
export type Markup =
  | {
      readonly kind: "schema";
      readonly file: string;
      /** With its files in it. */ readonly schema: Schema;
      readonly diagnostics: readonly Diagnostic[];
    }
  | { readonly kind: "prompt"; readonly file: string; readonly prompt: Prompt; readonly diagnostics: readonly Diagnostic[] }
  | { readonly kind: "unknown"; readonly file: string; readonly diagnostics: readonly Diagnostic[] };

/** A schema or a prompt from a file: parsed, resolved, checked by itself. Never throws for what the file holds, or for its absence. */
export function readMarkup(file: string, options: ReadOptions = {}): Markup {
  const files = options.files ?? folderFiles(folderOf(file), options);
  const read = readWhole(file, files);
  if ("diagnostics" in read) return { kind: "unknown", file, diagnostics: read.diagnostics };
  return openMarkup(read.bytes, { file, files, from: read.file });
}

export type OpenOptions = {
  /** What the text must be; either when left out. */
  readonly kind?: "schema" | "prompt";
  /** What diagnostics call the text. */
  readonly file: string;
  /** Where what it names is read. */
  readonly files: Files;
  /** The file from which paths are relative; `file` when left out. */
  readonly from?: string;
};

/** As `readMarkup`, from its text. */
export function openMarkup(markup: string | Uint8Array, { kind, file, files, from = file }: OpenOptions): Markup {
  const { diagnostics, append } = diagnosticList();
  const parsed: ParsedSchema & ParsedPrompt =
    kind === "schema" ? parseSchema(markup, { file }) : kind === "prompt" ? parsePrompt(markup, { file }) : parseMarkup(markup, { file });
  append(parsed.diagnostics);
  if (parsed.prompt) return { kind: "prompt", file, prompt: parsed.prompt, diagnostics };
  if (!parsed.schema) return { kind: "unknown", file, diagnostics };
  const resolved = resolveSchema(parsed.schema, { files, file: from });
  append(resolved.diagnostics);
  append(checkSchema(resolved.schema));
  return { kind: "schema", file, schema: resolved.schema, diagnostics };
}

export type ReadSchema = {
  /** With its files in it: what layoutSchema takes. */
  readonly schema?: Schema;
  /** As it is written: what formatPml takes. */
  readonly written?: Schema;
  /** Of its parsing, its files and its rules. */
  readonly diagnostics: readonly Diagnostic[];
};

/** A schema from a file, checked. Never throws for what the file holds, or for its absence. */
export function readSchema(file: string, options: ReadOptions = {}): ReadSchema {
  const { diagnostics, append } = diagnosticList();
  const files = options.files ?? folderFiles(folderOf(file), options);
  const read = readWhole(file, files);
  if ("diagnostics" in read) return read;
  const parsed = parseSchema(read.bytes, { file });
  append(parsed.diagnostics);
  if (!parsed.schema) return { diagnostics };
  const resolved = resolveSchema(parsed.schema, { files, file: read.file });
  append(resolved.diagnostics);
  append(checkSchema(resolved.schema));
  return { schema: resolved.schema, written: parsed.schema, diagnostics };
}

/** A prompt from a file. Never throws for what the file holds, or for its absence. */
export function readPrompt(file: string, { files = folderFiles(folderOf(file)) }: Pick<ReadOptions, "files"> = {}): ParsedPrompt {
  const read = readWhole(file, files);
  return "diagnostics" in read ? read : parsePrompt(read.bytes, { file });
}

function readWhole(file: string, files: Files) {
  const read = files.read(file, "");
  if (!("problem" in read)) return read;
  const { diagnostics, report } = diagnosticList();
  report(read.problem, read.message, { source: sourceText(file, ""), start: 0, end: 0 });
  return { diagnostics };
}

/** Where a file truly lies, a link to it followed. */
function folderOf(file: string): string {
  try {
    return dirname(realpathSync(file));
  } catch {
    return dirname(file);
  }
}
