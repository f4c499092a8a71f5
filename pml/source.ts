import { decodeEntities } from "./entity.js";

/**
 * A file's text and places in it.
 *
 * Offsets count UTF-16 code units of the text after line ends became `\n`, as XML requires. Lines and columns count
 * from 1, columns in UTF-16 code units, as editors show them.
 */
export type SourceText = {
  readonly file: string;
  readonly text: string;
  /** Offset of each line's first character. */
  readonly lineStarts: readonly number[];
};

/** Half-open range of offsets in a source. */
export type Span = { readonly source: SourceText; readonly start: number; readonly end: number };

/**
 * Where a node of the tree was written: an element's name in its opening tag, or a whole text. Nodes from the builder
 * have none.
 */
export type Origin = Span;

/** A place in the form that programs and editors use. */
export type Place = {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly endLine: number;
  readonly endColumn: number;
  /** The line's text, cut to a window around the column if it is long. */
  readonly excerpt: string;
  /** Column of the excerpt's first character. */
  readonly excerptColumn: number;
};

/** Characters of a line shown in a diagnostic: some files are a single line. */
const EXCERPT_LENGTH = 120;

export function sourceText(file: string, text: string): SourceText {
  const unified = text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  const lineStarts = [0];
  for (let at = unified.indexOf("\n"); at !== -1; at = unified.indexOf("\n", at + 1)) lineStarts.push(at + 1);
  return { file, text: unified, lineStarts };
}

const ATTRIBUTE = /[ \t\n]*([^ \t\n<>/="'&]+)[ \t\n]*=[ \t\n]*(?:"([^"]*)"|'([^']*)')/dy;

/** Places of an element's attribute, re-read from its tag: diagnostics are rare, so trees do not store them. */
export function attributeSpans(origin: Origin | undefined, name: string): { readonly name?: Span; readonly value?: Span } {
  if (!origin) return {};
  const { source } = origin;
  ATTRIBUTE.lastIndex = origin.end;
  for (let match = ATTRIBUTE.exec(source.text); match; match = ATTRIBUTE.exec(source.text)) {
    const [, written, double, single] = match.indices ?? [];
    const value = double ?? single;
    if (match[1] !== name || !written || !value) continue;
    return { name: { source, start: written[0], end: written[1] }, value: { source, start: value[0], end: value[1] } };
  }
  return {};
}

/** Place of an attribute's value, unless the tag has another: a program's values (data.ts) are not in the file. */
export function valueSpan(origin: Origin | undefined, name: string, value: string | undefined): Span | undefined {
  const span = attributeSpans(origin, name).value;
  return span && decodeEntities(span.source.text.slice(span.start, span.end)) === value ? span : undefined;
}

const REST_OF_TAG = /(?:[^"'>]|"[^"]*"|'[^']*')*>/y;

/** Offset after the `>` of the opening tag with this name. */
export function endOfTag({ source, end }: Origin): number {
  REST_OF_TAG.lastIndex = end;
  return REST_OF_TAG.test(source.text) ? REST_OF_TAG.lastIndex : end;
}

/** Lines and columns of a span, counted from 1. */
export function placeOf(span: Span): Place {
  const { source } = span;
  const [line, column] = lineAndColumn(source, span.start);
  const [endLine, endColumn] = lineAndColumn(source, Math.max(span.start, span.end));
  const lineStart = source.lineStarts[line - 1] ?? 0;
  const nextLine = source.lineStarts[line];
  const lineEnd = nextLine === undefined ? source.text.length : nextLine - 1;
  const cut = Math.max(0, Math.min(column - 1 - EXCERPT_LENGTH / 2, lineEnd - lineStart - EXCERPT_LENGTH));
  const excerpt = source.text.slice(lineStart + cut, Math.min(lineEnd, lineStart + cut + EXCERPT_LENGTH));
  return { file: source.file, line, column, endLine, endColumn, excerpt, excerptColumn: cut + 1 };
}

function lineAndColumn(source: SourceText, offset: number): [line: number, column: number] {
  let low = 0;
  let high = source.lineStarts.length;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((source.lineStarts[middle] ?? Infinity) <= offset) low = middle;
    else high = middle;
  }
  return [low + 1, offset - (source.lineStarts[low] ?? 0) + 1];
}
