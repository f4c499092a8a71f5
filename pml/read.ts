import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import { checkSchema } from "./check.js";
import { type Diagnostic, diagnosticList } from "./diagnostic.js";
import { type Files, folderFiles } from "./files.js";
import { type ParsedPrompt, type ParsedSchema, parseMarkup, parsePrompt, parseSchema } from "./parse.js";
import { resolveSchema } from "./resolve.js";
import { sourceText } from "./source.js";
import type { Prompt, Schema } from "./tree.js";

/** Which files may be read. */
export type ReadOptions = {
  /** Where files come from; by default the disk, within the schema's folder. */
  readonly files?: Files;
  /** Also read `src` and imports from outside the schema's folder. Has no effect on custom `files`. */
  readonly allowOutside?: boolean;
};

/** Markup of either kind, recognised by its root element; `unknown` if it has no tree. */
export type Markup =
  | {
      readonly kind: "schema";
      readonly file: string;
      /** With its files included. */ readonly schema: Schema;
      readonly diagnostics: readonly Diagnostic[];
    }
  | { readonly kind: "prompt"; readonly file: string; readonly prompt: Prompt; readonly diagnostics: readonly Diagnostic[] }
  | { readonly kind: "unknown"; readonly file: string; readonly diagnostics: readonly Diagnostic[] };

/** A schema or a prompt from a file: parsed, resolved, checked by itself. Never throws for a missing file or for its contents. */
export function readMarkup(file: string, options: ReadOptions = {}): Markup {
  const files = options.files ?? folderFiles(folderOf(file), options);
  const read = readWhole(file, files);
  if ("diagnostics" in read) return { kind: "unknown", file, diagnostics: read.diagnostics };
  return openMarkup(read.bytes, { file, files, from: read.file });
}

/** What a text is, and where the files it names are read. */
export type OpenOptions = {
  /** What the text must be; either kind by default. */
  readonly kind?: "schema" | "prompt";
  /** What diagnostics call the text. */
  readonly file: string;
  /** Reads the files it names. */
  readonly files: Files;
  /** The file that paths are relative to; `file` by default. */
  readonly from?: string;
};

/** Like `readMarkup`, from a text. */
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

/** A schema and the files it names, as read. */
export type ReadSchema = {
  /** With its files included: what layoutSchema takes. */
  readonly schema?: Schema;
  /** As written: what formatPml takes. */
  readonly written?: Schema;
  /** From parsing, reading files and checking rules. */
  readonly diagnostics: readonly Diagnostic[];
};

/** A schema from a file, checked. Never throws for a missing file or for its contents. */
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

/** A prompt from a file. Never throws for a missing file or for its contents. */
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

/** A file's real path, with links followed. */
function folderOf(file: string): string {
  try {
    return dirname(realpathSync(file));
  } catch {
    return dirname(file);
  }
}
