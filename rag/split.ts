import { KvspliceError, type ModelCard, type Tokenizer } from "../engine/index.js";
import { Pace } from "../plan/index.js";
import type { Document, Paragraph } from "./document.js";
import { renderDocument } from "./question-plan.js";

/** A part of a document that is encoded, retrieved and read as a unit. */
export type Chunk = {
  readonly title: string;
  readonly text: string;
  /** Token ids of the rendered chunk, including the title line. */
  readonly tokens: readonly number[];
  /** Page on which it begins, from 1, if its file has pages. */
  readonly page?: number;
};

/** How long chunks are: at most `maxTokens` each; by default what the model's card says. */
export type SplitOptions = {
  readonly tokenizer: Tokenizer;
  readonly card: ModelCard;
  readonly maxTokens?: number;
  /** Tokens of the whole document; a longer one is refused without reading it to the end. Unlimited by default. */
  readonly mostTokens?: number;
  readonly signal?: AbortSignal | undefined;
};

/** At most this share of a chunk is its title; a longer title is cut. */
const MAX_TITLE_SHARE = 0.25;

/** A rune is at most 4 bytes, so 4 tokens: with less room for text, splitting would never end. */
const MIN_TEXT_TOKENS = 8;

/** At most this share of a chunk is a table's column names; longer ones appear only above the first row. */
const MAX_COLUMNS_SHARE = 0.3;

/** Characters read, and searched for the end of a sentence or word, in one step. */
const READ_AT_ONCE = 4_096;
/** A longer paragraph is measured in parts: the ends of its millions of tokens are not kept at once. */
const PART = 262_144;
const WINDOW = 8_192;

type Source = Omit<Paragraph, "text">;

/** A stretch of a paragraph that goes into one chunk whole; `tokens` counts it in its paragraph. */
type Unit = { readonly text: MeasuredText; readonly start: number; readonly end: number; readonly tokens: number; readonly from: Source };

type Counter = (text: string) => number;

/** Lengths of a unit's parts, from coarse to fine: sentences and words by the rules of Unicode (UAX #29), tokens, single runes. */
const CUTS: readonly ((unit: Unit) => Iterable<number>)[] = [segmentsBy("sentence"), segmentsBy("word"), tokensOfUnit, runes];

/**
 * Splits a document into chunks of at most `maxTokens` tokens, each counted as rendered for the model. Adjacent
 * paragraphs share a chunk while they fit, and a heading stays with what follows. A paragraph that is too long for a
 * chunk is cut between sentences, a sentence between words, a word between its tokens. No text is left out. A table's
 * column names are repeated above its rows in every chunk.
 *
 * The text is read once to find where to cut, and each chunk once as it is rendered, so the time is linear in the text's
 * length; the event loop runs in between.
 *
 *     const document = { path: "", title: "Gull Point", paragraphs: [{ text }] };
 *     const chunks = await splitDocument(document, { tokenizer: model.tokenizer, card: model.card });
 *
 * @throws KvspliceError `bad_argument` if maxTokens leaves no room for text, `too_long` above `mostTokens`, `cancelled`
 */
export async function splitDocument(document: Document, options: SplitOptions): Promise<Chunk[]> {
  const { tokenizer, card, maxTokens = Math.min(card.chunkTokens, card.maxDocumentTokens) } = options;
  const count: Counter = (text) => tokenizer.encode(text).length;
  const title = shortened(document.title, Math.floor(maxTokens * MAX_TITLE_SHARE), tokenizer);
  const render = (text: string) => tokenizer.encode(renderDocument(card, title, text));
  const around = render("").length;
  const room = maxTokens - around;
  if (room < MIN_TEXT_TOKENS) {
    throw new KvspliceError("bad_argument", `${maxTokens} tokens per document leave no room for text; allow more.`);
  }

  const pace = new Pace(options.signal);
  const columnTokens = remembering(count);
  const units = new Units(withFittingColumns(document.paragraphs, room, columnTokens), {
    tokenizer,
    room,
    mostTokens: options.mostTokens ?? Infinity,
    columnTokens,
    pace,
  });
  const chunks: Chunk[] = [];
  let beginsLine = true;
  let columns: string | undefined;
  for (;;) {
    if (await units.blankFills(0, columns)) beginsLine = await units.passBlank(columns);
    const first = await units.at(0);
    if (first === undefined) return chunks;
    const packed = await pack(units, { around, maxTokens, columnTokens, render: (some) => render(textOf(some, beginsLine)) });
    if (packed.length === 0) {
      units.cutFirst();
      continue;
    }
    const text = textOf(packed, beginsLine);
    const { page } = first.from;
    if (text !== "") chunks.push({ title, text, tokens: render(text), ...(page === undefined ? {} : { page }) });
    const last = packed.at(-1)!;
    beginsLine = partOf(last).endsWith("\n");
    columns = last.from.columns;
    units.drop(packed.length);
    await pace.breathe();
  }
}

type PackOptions = {
  /** Tokens of a chunk without text. */
  readonly around: number;
  readonly maxTokens: number;
  readonly columnTokens: Counter;
  readonly render: (units: readonly Unit[]) => readonly number[];
};

/**
 * The units of the next chunk: as many as fit, but no heading without its text. Their tokens in the paragraph are an
 * estimate; the chunk's tokens are counted when it seems full, and any room left is filled.
 */
async function pack(units: Units, { around, maxTokens, columnTokens, render }: PackOptions): Promise<readonly Unit[]> {
  const rendered = (count: number) => render(units.first(count)).length;
  let [end, used] = [0, around];
  for (;;) {
    let next = end;
    let columns = (await units.at(end - 1))?.from.columns;
    for (let left = maxTokens - used; ; next++) {
      const unit = units.known(next) ?? (await units.at(next));
      if (unit === undefined) break;
      const above = unit.from.columns;
      left -= unit.tokens + (above === undefined || above === columns ? 0 : columnTokens(`${above}\n`));
      if (left < 0) break;
      columns = above;
    }
    const fitting = mostWithin(end, next, (count) => rendered(count) <= maxTokens);
    const full = fitting === end || (fitting === next && (await units.blankFills(next, columns)));
    end = fitting;
    if (full) break;
    used = rendered(end);
  }
  if ((await units.at(end)) === undefined) return units.first(end);
  let kept = end;
  while (kept > 0 && units.first(kept).at(-1)!.from.heading) kept--;
  return units.first(kept > 0 ? kept : end);
}

/** The largest number from `least` to `most` that fits; `least` is known to fit, and the result is usually near `most`. */
function mostWithin(least: number, most: number, fits: (count: number) => boolean): number {
  let [low, high] = [most, most + 1];
  for (let step = 1; low > least && !fits(low); step *= 2) [low, high] = [Math.max(least, low - step), low];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** The text of a chunk: a line that begins in it keeps its indentation, the rest of a cut line has none. */
function textOf(units: readonly Unit[], beginsLine: boolean): string {
  let text = "";
  let columns: string | undefined;
  for (const unit of units) {
    const { from } = unit;
    if (from.columns !== columns && from.columns !== undefined) text += `${from.columns}\n`;
    columns = from.columns;
    text += partOf(unit);
  }
  return (beginsLine ? text.replace(/^(?:[^\S\n]*\n)+/, "") : text.trimStart()).trimEnd();
}

/** Column names that would fill a chunk become a separate paragraph, once. */
function withFittingColumns(paragraphs: readonly Paragraph[], room: number, count: Counter): Paragraph[] {
  return paragraphs.flatMap((paragraph, index) => {
    const { columns, ...row } = paragraph;
    if (columns === undefined || count(`${columns}\n`) <= MAX_COLUMNS_SHARE * room) return [paragraph];
    return paragraphs[index - 1]?.columns === columns ? [row] : [{ ...row, text: columns }, row];
  });
}

const TOO_LONG = "The document does not fit into the context; give a shorter one, or part of it.";

/** A text, and its number of tokens up to each place. */
class MeasuredText {
  private constructor(
    readonly text: string,
    private readonly ends: readonly number[],
  ) {}

  /** @throws KvspliceError `too_long` above `most` tokens */
  static async of(text: string, most: number, { tokenizer, pace }: Pick<UnitOptions, "tokenizer" | "pace">): Promise<MeasuredText> {
    const reading = tokenizer.read(text, { continues: true });
    for (let more = true; more; await pace.breathe()) {
      more = reading.advance(READ_AT_ONCE);
      if (reading.ids.length > most) throw new KvspliceError("too_long", TOO_LONG);
    }
    return new MeasuredText(text, reading.ends);
  }

  get tokens(): number {
    return this.ends.length;
  }

  /** Tokens that end within a part: the counts of adjacent parts add up. */
  tokensOf(start: number, end: number): number {
    return this.tokensUpTo(end) - this.tokensUpTo(start);
  }

  /** Places after `start`, up to `end`, at which a character's last token ends. */
  *endsWithin(start: number, end: number): Generator<number> {
    let last = start;
    for (let index = this.tokensUpTo(start); this.ends[index]! <= end; index++) {
      if (this.ends[index]! > last) yield (last = this.ends[index]!);
    }
  }

  private tokensUpTo(place: number): number {
    let [low, high] = [0, this.ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle]! <= place) low = middle + 1;
      else high = middle;
    }
    return place === 0 ? 0 : low;
  }
}

type UnitOptions = {
  readonly tokenizer: Tokenizer;
  readonly room: number;
  readonly mostTokens: number;
  readonly columnTokens: Counter;
  readonly pace: Pace;
};

/** The units of a document from the next chunk's first on, made lazily. */
class Units {
  private units: Unit[] = [];
  private paragraph = 0;
  /** Where in the next paragraph the next part of it begins. */
  private place = 0;
  /** Tokens of the paragraphs before the next one. */
  private read = 0;
  private coming: Iterator<Unit> | undefined;

  constructor(
    private readonly paragraphs: readonly Paragraph[],
    private readonly options: UnitOptions,
  ) {}

  async at(index: number): Promise<Unit | undefined> {
    while (this.units.length <= index) {
      const next = this.coming?.next();
      if (next?.done === false) this.units.push(next.value);
      else if (!(await this.readNext())) return undefined;
    }
    return this.units[index];
  }

  /** The same for a unit that already exists, without waiting. */
  known(index: number): Unit | undefined {
    return this.units[index];
  }

  /** The first units, which already exist. */
  first(count: number): readonly Unit[] {
    return this.units.slice(0, count);
  }

  drop(count: number): void {
    this.units = this.units.slice(count);
  }

  /**
   * Whether white space begins here that fills a chunk. It is in no chunk's text, which has none at its ends.
   * @param columns those that stand above the unit before
   */
  async blankFills(index: number, columns: string | undefined): Promise<boolean> {
    for (let tokens = 0; tokens <= this.options.room; index++) {
      const unit = this.known(index) ?? (await this.at(index));
      if (unit === undefined || !isBlank(unit, columns)) return false;
      tokens += unit.tokens;
    }
    return true;
  }

  /** Drops all white space that comes first. Returns whether a line begins after it. */
  async passBlank(columns: string | undefined): Promise<boolean> {
    let beginsLine = false;
    for (let first = await this.at(0); first !== undefined && isBlank(first, columns); first = await this.at(0)) {
      const other = this.units.findIndex((unit) => !isBlank(unit, columns));
      const blank = other < 0 ? this.units.length : other;
      beginsLine = partOf(this.units[blank - 1]!).endsWith("\n");
      this.drop(blank);
      await this.options.pace.breathe();
    }
    return beginsLine;
  }

  /** For a unit that fits as counted in its paragraph, but not in its chunk. */
  cutFirst(): void {
    const [first, ...others] = this.units as [Unit, ...Unit[]];
    for (const cut of CUTS) {
      const parts = [...partsOf(first, cut)];
      if (parts.length === 1) continue;
      this.units = [...parts, ...others];
      return;
    }
  }

  private async readNext(): Promise<boolean> {
    const paragraph = this.paragraphs[this.paragraph];
    if (paragraph === undefined) return false;
    const { room, columnTokens, mostTokens } = this.options;
    const { text: whole, heading, ...from } = paragraph;
    const end = endOfPart(whole, this.place);
    const part = end < whole.length ? whole.slice(this.place, end) : `${whole.slice(this.place)}\n`;
    const isWhole = part.length > whole.length;
    this.place = end < whole.length ? end : 0;
    if (this.place === 0) this.paragraph++;
    const left = room - (from.columns === undefined ? 0 : columnTokens(`${from.columns}\n`));
    const measured = await MeasuredText.of(part, mostTokens - this.read, this.options);
    this.read += measured.tokens;
    this.coming = fitted(unit(measured, 0, part.length, { ...from, ...(isWhole && heading && { heading }) }), left, 0);
    return true;
  }
}

function* fitted(whole: Unit, room: number, cut: number): Generator<Unit> {
  const segments = CUTS[cut];
  if (whole.tokens <= room || segments === undefined || isBlank(whole, undefined)) yield whole;
  else for (const part of partsOf(whole, segments)) yield* fitted(part, room, cut + 1);
}

function* partsOf(whole: Unit, segments: (unit: Unit) => Iterable<number>): Generator<Unit> {
  const { text, start, from } = whole;
  const { heading: _, ...continued } = from; // part of a heading is not a heading
  let at = start;
  for (const length of segments(whole)) yield unit(text, at, (at += length), continued);
}

function unit(text: MeasuredText, start: number, end: number, from: Source): Unit {
  return { text, start, end, tokens: text.tokensOf(start, end), from };
}

function partOf({ text, start, end }: Unit): string {
  return text.text.slice(start, end);
}

/** Whether a unit below these columns has no content. */
function isBlank(unit: Unit, columns: string | undefined): boolean {
  const above = unit.from.columns;
  return (above === undefined || above === columns) && !/\S/.test(partOf(unit));
}

/** The title, or as many of its words as fit into `maxTokens`, followed by an ellipsis. */
function shortened(title: string, maxTokens: number, tokenizer: Tokenizer): string {
  const reading = tokenizer.read(title);
  while (reading.ids.length <= maxTokens && reading.advance(READ_AT_ONCE));
  if (reading.ids.length <= maxTokens) return title;
  const beginning = [...title.slice(0, reading.ends[maxTokens])];
  const fits = (runes: number) =>
    runes <= beginning.length && tokenizer.encode(`${beginning.slice(0, runes).join("")}…`).length <= maxTokens;
  let kept = [...title].length;
  while (kept > 0 && !fits(kept)) kept = Math.floor(kept * 0.9);
  const text = beginning.slice(0, kept).join("");
  return `${text.replace(/\s+\S*$/, "")}…`;
}

function remembering(count: Counter): Counter {
  const counts = new Map<string, number>();
  return (text) => {
    const known = counts.get(text) ?? count(text);
    counts.set(text, known);
    return known;
  };
}

/** Lengths of the segments, found in a moving window: a segment longer than the window is cut. */
function segmentsBy(granularity: "sentence" | "word"): (unit: Unit) => Iterable<number> {
  const segmenter = new Intl.Segmenter("en", { granularity });
  return function* (unit) {
    const text = partOf(unit);
    for (let start = 0; start < text.length; ) {
      const window = text.slice(start, wholeRunes(text, start + WINDOW));
      const goesOn = start + window.length < text.length;
      let at = 0;
      for (const { segment, index } of segmenter.segment(window)) {
        if (goesOn && index > 0 && index + segment.length === window.length) break; // it may end after the window
        yield segment.length;
        at = index + segment.length;
      }
      start += at;
    }
  };
}

function* tokensOfUnit({ text, start, end }: Unit): Generator<number> {
  let at = start;
  for (const next of text.endsWithin(start, end)) {
    yield next - at;
    at = next;
  }
  if (at < end) yield end - at;
}

function* runes(unit: Unit): Generator<number> {
  for (const rune of partOf(unit)) yield rune.length;
}

/** Where the part of a text that begins at a place ends: after a line or word if one ends in its last tenth. */
function endOfPart(text: string, start: number): number {
  if (text.length - start <= PART) return text.length;
  const most = wholeRunes(text, start + PART);
  const last = text.slice(most - Math.floor(PART / 10), most);
  const space = Math.max(last.lastIndexOf("\n"), last.lastIndexOf(" "));
  return space < 0 ? most : most - last.length + space + 1;
}

/** A place near this one that does not cut a rune. */
function wholeRunes(text: string, place: number): number {
  const unit = text.charCodeAt(place);
  return unit >= 0xdc00 && unit < 0xe000 ? place - 1 : place;
}
