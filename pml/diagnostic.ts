import stringWidth from "string-width";
import { KvspliceError } from "../plan/index.js";
import { type Place, placeOf, type Span } from "./source.js";

/** An error keeps markup from being used; a warning does not. */
export type Severity = "error" | "warning";

/** Every rule of the language, by the code of the diagnostic that reports its violation. */
const SEVERITIES = {
  // XML itself
  "bad-encoding": "error",
  "bad-xml": "error",
  "bad-attribute": "error",
  "bad-entity": "error",
  doctype: "error",
  "duplicate-attribute": "error",
  "too-deep": "error",
  "too-large": "error",
  "too-many-tokens": "error",
  "unclosed-element": "error",
  "unopened-element": "error",
  // elements and attributes
  "bad-value": "error",
  "misplaced-element": "error",
  "misplaced-text": "error",
  "missing-attribute": "error",
  "unknown-attribute": "error",
  "unknown-element": "error",
  "wrong-root": "error",
  // names
  "bad-name": "error",
  "duplicate-name": "error",
  "reserved-name": "error",
  // files
  "import-cycle": "error",
  "outside-folder": "error",
  "src-and-content": "error",
  "unread-file": "error",
  "unreadable-file": "error",
  // schemas
  "default-too-long": "error",
  "misplaced-open": "error",
  "scaffold-conflict": "error",
  "unknown-variable": "error",
  // prompts
  "argument-too-long": "error",
  "empty-prompt": "error",
  "included-twice": "error",
  "missing-argument": "error",
  "module-after-text": "error",
  "prompt-too-long": "error",
  "union-conflict": "error",
  "unknown-argument": "error",
  "unknown-document": "error",
  "unknown-module": "error",
  "wrong-schema": "error",
  // legal, but likely wrong
  "argument-truncated": "warning",
  "import-leaves-out": "warning",
  "module-left-out": "warning",
  "placeholder-too-long": "warning",
  "scaffold-of-one": "warning",
  "schema-too-long": "warning",
  "text-outside-message": "warning",
  "union-of-one": "warning",
  "unused-module": "warning",
  "unused-parameter": "warning",
} as const satisfies Record<string, Severity>;

/** A rule of the language, by name. */
export type DiagnosticCode = keyof typeof SEVERITIES;

/** All rules, by name. */
export const DIAGNOSTIC_CODES = Object.keys(SEVERITIES) as readonly DiagnosticCode[];

/** A broken rule: which one, where, and what to do. */
export type Diagnostic = {
  readonly code: DiagnosticCode;
  readonly severity: Severity;
  /** What is wrong and, if it can be guessed, what was likely meant. */
  readonly message: string;
  /** Absent for trees made by the builder. */
  readonly place?: Place;
};

/** Anything expensive to make (a search for what was meant, the place of one attribute among many) is passed as a function. */
export type Report = (code: DiagnosticCode, message: string | (() => string), span?: Span | (() => Span | undefined)) => void;

/** Diagnostics of one run: a file full of errors must not fill memory or the screen. */
const MAX_DIAGNOSTICS = 1_000;

/** Characters of one quoted text. */
const MAX_QUOTE_LENGTH = 60;

/** Characters of one message: lists of names are otherwise unbounded. */
const MAX_MESSAGE_LENGTH = 1_000;

export type DiagnosticList = {
  readonly diagnostics: readonly Diagnostic[];
  readonly report: Report;
  /** Adds the diagnostics of another run. */
  readonly append: (others: readonly Diagnostic[]) => void;
};

export function diagnosticList(): DiagnosticList {
  const diagnostics: Diagnostic[] = [];
  const room = () => MAX_DIAGNOSTICS - diagnostics.length;
  return {
    diagnostics,
    report: (code, message, span) => {
      if (room() === 0) return;
      const text = shorten(typeof message === "string" ? message : message());
      const at = typeof span === "function" ? span() : span;
      diagnostics.push({ code, severity: SEVERITIES[code], message: text, ...(at && { place: placeOf(at) }) });
    },
    append: (others) => diagnostics.push(...others.slice(0, room())),
  };
}

/** Whether any of them keeps the markup from being used. */
export function hasErrors(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some(({ severity }) => severity === "error");
}

/** A quoted text may be as long as the file. */
function shorten(message: string): string {
  const short = message.replace(/`([^`]*)`/g, (whole, quoted: string) =>
    quoted.length > MAX_QUOTE_LENGTH ? `\`${quoted.slice(0, MAX_QUOTE_LENGTH)}…\`` : whole,
  );
  return short.length > MAX_MESSAGE_LENGTH ? `${short.slice(0, MAX_MESSAGE_LENGTH)}…` : short;
}

/** Throws `KvspliceError` `bad_markup`, with all diagnostics in its message, if any of them is an error. */
export function throwOnErrors(diagnostics: readonly Diagnostic[]): void {
  if (hasErrors(diagnostics)) throw new KvspliceError("bad_markup", renderDiagnostics(diagnostics));
}

/**
 * Diagnostics for people to read:
 *
 *     trip.prompt.pml:2:9: error: no module `toyko` in `plan`; did you mean `tokyo`? [unknown-module]
 *       2 |   <plan><toyko/></plan>
 *         |          ^^^^^
 */
export function renderDiagnostics(diagnostics: readonly Diagnostic[]): string {
  return diagnostics.map(renderDiagnostic).join("\n");
}

function renderDiagnostic({ code, severity, message, place }: Diagnostic): string {
  if (!place) return `${severity}: ${message} [${code}]`;
  const { file, line, column, endLine, endColumn, excerpt, excerptColumn } = place;
  const number = String(line);
  const start = column - excerptColumn;
  const stop = endLine === line ? endColumn - excerptColumn : excerpt.length;
  // A terminal shows some characters in two columns, some in none.
  const before = excerpt
    .slice(0, start)
    .split("\t")
    .map((part) => " ".repeat(stringWidth(part)))
    .join("\t");
  const carets = "^".repeat(Math.max(1, stringWidth(excerpt.slice(start, stop))));
  return [
    `${file}:${line}:${column}: ${severity}: ${message} [${code}]`,
    `  ${number} | ${excerpt}`,
    `  ${" ".repeat(number.length)} | ${before}${carets}`,
  ].join("\n");
}
