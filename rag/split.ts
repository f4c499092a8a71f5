import { KvspliceError, type ModelCard, type Tokenizer } from "../engine/index.js";
import type { Document, Paragraph } from "./document.js";
import { renderDocument } from "./prompt.js";

/** A part of a document that is encoded, retrieved and read as one. */
export type Chunk = {
  readonly title: string;
  readonly text: string;
  /** Token ids of the rendered chunk, title line included. */
  readonly tokens: readonly number[];
  /** Page that it begins on, from 1, where its file has pages. */
  readonly page?: number;
};

export type SplitOptions = { readonly tokenizer: Tokenizer; readonly card: ModelCard; readonly maxTokens?: number };

/** Of a chunk, at most this share goes to its title; a longer title is cut there. */
const MAX_TITLE_SHARE = 0.25;

/** A rune is at most 4 bytes, so 4 tokens: below this room for text, splitting would not come to an end. */
const MIN_TEXT_TOKENS = 8;

/** Of a chunk, at most this share goes to the names of a table's columns; longer ones stand above its first row alone. */
const MAX_COLUMNS_SHARE = 0.3;

/** A stretch of text that is laid into one chunk whole. `tokens` is its count alone: nearly what it adds to a chunk. */
type Unit = { readonly text: string; readonly tokens: number; readonly from: Omit<Paragraph, "text"> };

type Counter = (text: string) => number;

/** From coarse to fine: sentences and words by the rules of Unicode (UAX #29), then single runes. */
const CUTS: readonly ((text: string) => string[])[] = [
  segmentsBy("sentence"),
  segmentsBy("word"),
  (text) => [...text],
];

/**
 * Splits a document into chunks of at most `maxTokens` tokens, each counted as rendered for the model. Neighbouring
 * paragraphs share a chunk while they fit, and a heading goes with what follows. A paragraph that is too long for a
 * chunk is cut between sentences, a sentence between words, a word between its letters. No text is left out. The names
 * of a table's columns stand above its rows in every chunk.
 *
 * @throws KvspliceError `bad_argument` where maxTokens leaves no room for text
 */
export function splitDocument(document: Document, options: SplitOptions): Chunk[] {
  const { tokenizer, card, maxTokens = Math.min(card.chunkTokens, card.maxDocumentTokens) } = options;
  const count: Counter = (text) => tokenizer.encode(text).length;
  const title = shortened(document.title, Math.floor(maxTokens * MAX_TITLE_SHARE), count);
  const render = (text: string) => tokenizer.encode(renderDocument(card, title, text));
  const room = maxTokens - render("").length;
  if (room < MIN_TEXT_TOKENS) {
    throw new KvspliceError("bad_argument", `${maxTokens} tokens a document leave no room for text; allow more.`);
  }

  const paragraphs = withFittingColumns(document.paragraphs, room, count);
  const units = paragraphs.flatMap((paragraph) => unitsOf(paragraph, room, count));
  const chunks: Chunk[] = [];
  for (let start = 0; start < units.length; ) {
    const end = packed(units, start, maxTokens, render);
    if (end === start) {
      units.splice(start, 1, ...finer(units[start]!, count));
      continue;
    }
    const text = textOf(units, start, end);
    const { page } = units[start]!.from;
    if (text !== "") chunks.push({ title, text, tokens: render(text), ...(page === undefined ? {} : { page }) });
    start = end;
  }
  return chunks;
}

/**
 * Where the chunk that begins at `start` ends: after as many units as fit, but not between a heading and its text.
 * The sum of the units' tokens is a guide that errs upward (a word alone costs more than in its sentence), so what
 * room the true count leaves is filled again, until no further unit fits.
 */
function packed(units: readonly Unit[], start: number, maxTokens: number, render: (text: string) => number[]): number {
  const rendered = (end: number) => render(textOf(units, start, end)).length;
  let end = start;
  for (let used = rendered(start), next = end; ; end = next, used = rendered(end)) {
    for (let left = maxTokens - used; next < units.length && units[next]!.tokens <= left; next++) {
      left -= units[next]!.tokens;
    }
    while (next > end && rendered(next) > maxTokens) next--;
    if (next === end) break;
  }
  if (end === units.length) return end;
  let kept = end;
  while (kept > start && units[kept - 1]!.from.heading) kept--;
  return kept > start ? kept : end;
}

/** What a chunk of these units says: a line that begins in it keeps its indentation, the rest of a cut one has none. */
function textOf(units: readonly Unit[], start: number, end: number): string {
  let text = "";
  let columns: string | undefined;
  for (const { text: part, from } of units.slice(start, end)) {
    if (from.columns !== columns && from.columns !== undefined) text += `${from.columns}\n`;
    columns = from.columns;
    text += part;
  }
  const beginsLine = start === 0 || units[start - 1]!.text.endsWith("\n");
  return (beginsLine ? text.replace(/^(?:[^\S\n]*\n)+/, "") : text.trimStart()).trimEnd();
}

/** Columns' names that would fill a chunk become a paragraph of their own, once. */
function withFittingColumns(paragraphs: readonly Paragraph[], room: number, count: Counter): Paragraph[] {
  const fits = new Map<string, boolean>();
  return paragraphs.flatMap((paragraph, index) => {
    const { columns, ...row } = paragraph;
    if (columns === undefined) return [paragraph];
    if (!fits.has(columns)) fits.set(columns, count(`${columns}\n`) <= MAX_COLUMNS_SHARE * room);
    if (fits.get(columns)) return [paragraph];
    return paragraphs[index - 1]?.columns === columns ? [row] : [{ ...row, text: columns }, row];
  });
}

function unitsOf({ text, ...from }: Paragraph, room: number, count: Counter): Unit[] {
  const left = room - (from.columns === undefined ? 0 : count(`${from.columns}\n`));
  return fitted(unit(`${text}\n`, count, from), left, count, 0);
}

function fitted(whole: Unit, room: number, count: Counter, cut: number): Unit[] {
  const segment = CUTS[cut];
  if (whole.tokens <= room || segment === undefined) return [whole];
  return segment(whole.text).flatMap((text) => fitted(unit(text, count, continued(whole)), room, count, cut + 1));
}

/** For a unit that fits when counted alone, but not in its place. */
function finer(whole: Unit, count: Counter): Unit[] {
  const segment = CUTS.find((cuts) => cuts(whole.text).length > 1)!;
  return segment(whole.text).map((text) => unit(text, count, continued(whole)));
}

/** What the parts of a cut unit have of it: a part of a heading is none. */
function continued({ from: { heading: _, ...from } }: Unit): Unit["from"] {
  return from;
}

function unit(text: string, count: Counter, from: Unit["from"]): Unit {
  return { text, tokens: count(text), from };
}

/** The title, or as many of its words as take `maxTokens`, and a sign that more stood there. */
function shortened(title: string, maxTokens: number, count: Counter): string {
  if (count(title) <= maxTokens) return title;
  const runes = [...title];
  let kept = runes.length;
  while (kept > 0 && count(`${runes.slice(0, kept).join("")}…`) > maxTokens) kept = Math.floor(kept * 0.9);
  const text = runes.slice(0, kept).join("");
  return `${text.replace(/\s+\S*$/, "")}…`;
}

function segmentsBy(granularity: "sentence" | "word"): (text: string) => string[] {
  const segmenter = new Intl.Segmenter("en", { granularity });
  return (text) => Array.from(segmenter.segment(text), ({ segment }) => segment);
}
