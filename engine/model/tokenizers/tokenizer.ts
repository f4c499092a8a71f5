import type { Reading, ReadOptions, Tokenizer } from "../../../plan/index.js";
import { readBytes, spellBytes } from "./byte-spelling.js";
import { Composition } from "./composition.js";
import { type Merge, Merger } from "./merger.js";
import { type SpelledToken, SpelledTokens } from "./spelled-tokens.js";
import type { TokenKind, Vocabulary } from "./vocabulary.js";
import { LONGEST_WORD, limitOf, WordScanner } from "./words.js";

/** SentencePiece's symbol for a space. */
const SPACE_SIGN = "\u2581";

/** Number of words whose tokens are cached, and the longest of them: most words in a text have occurred before. */
const REMEMBERED_WORDS = 1 << 15;
const LONGEST_REMEMBERED = 48;

/** Half of a surrogate pair: a lone one has no UTF-8 and is replaced with U+FFFD. */
const HALF = /\p{Cs}/gu;

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

/** Turns text into the same tokens as llama.cpp with the same vocabulary. Its tables are built on first use. */
export class VocabularyTokenizer implements Tokenizer {
  private parts: Parts | undefined;

  constructor(private readonly vocabulary: Vocabulary) {}

  get begin(): readonly number[] {
    return this.vocabulary.begin;
  }

  get end(): readonly number[] {
    return this.vocabulary.end;
  }

  get size(): number {
    return this.vocabulary.tokens.length;
  }

  bytesOf(id: number): Uint8Array {
    return Uint8Array.from(hasText(this.vocabulary.kinds[id]) ? this.spelledBytes(id) : []);
  }

  encode(text: string, options: ReadOptions = {}): number[] {
    const reading = this.read(text, options);
    while (reading.advance(Infinity));
    return reading.ids;
  }

  read(text: string, options: ReadOptions = {}): TextReading {
    this.parts ??= new Parts(this.vocabulary);
    return new TextReading(text, this.vocabulary, this.parts, options);
  }

  decode(ids: readonly number[], { continues = false }: { readonly continues?: boolean } = {}): string {
    const { kinds, spelling } = this.vocabulary;
    const bytes = ids.flatMap((id) => (hasText(kinds[id]) ? this.spelledBytes(id) : []));
    const text = utf8.decode(Uint8Array.from(bytes));
    return spelling.kind === "marked" && spelling.prefix !== "never" && !continues && text.startsWith(" ") ? text.slice(1) : text;
  }

  private spelledBytes(id: number): number[] {
    const { tokens, kinds, spelling } = this.vocabulary;
    const token = tokens[id]!;
    if (kinds[id] === "byte") return [Number.parseInt(token.slice(3, 5), 16)];
    if (kinds[id] === "user-defined") return [...encoder.encode(token)];
    return spelling.kind === "bytes" ? readBytes(token) : [...encoder.encode(token.replaceAll(SPACE_SIGN, " "))];
  }
}

function hasText(kind: TokenKind | undefined): boolean {
  return kind === "normal" || kind === "user-defined" || kind === "byte";
}

/** Lookup tables for reading text. */
class Parts {
  /** Spelled-out tokens to find in text, and in control text. */
  readonly spelled: SpelledTokens;
  readonly spelledControl: SpelledTokens;
  private readonly ids: ReadonlyMap<string, number>;
  private readonly merger: Merger;
  private readonly byteIds: readonly (number | undefined)[];
  /** Characters that are not tokens but may be part of one: their ids follow the vocabulary's. */
  private readonly strangers: string[] = [];
  private readonly strangerIds = new Map<string, number>();
  private readonly words = new Map<string, Int32Array>();
  private symbols = new Int32Array(256);
  /** Characters that may be followed by a space within a token. */
  readonly beforeSpace: ReadonlySet<number>;

  constructor(private readonly vocabulary: Vocabulary) {
    const { tokens, kinds, merging, spelling } = vocabulary;
    this.ids = idsByToken(tokens);
    this.spelled = new SpelledTokens(vocabulary, (id) => kinds[id] === "user-defined");
    this.spelledControl = new SpelledTokens(
      vocabulary,
      (id) => kinds[id] === "user-defined" || kinds[id] === "control" || kinds[id] === "unknown",
    );
    this.merger = new Merger(
      merging.kind === "ranks" ? this.byRank(merging.merges) : this.byScore(merging.scores),
      (id) => this.textOf(id).length,
    );
    this.byteIds =
      spelling.kind === "bytes"
        ? []
        : Array.from({ length: 256 }, (_, byte) => this.ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`));
    this.beforeSpace = spelling.kind === "bytes" ? new Set() : charactersBeforeSpace(tokens);
  }

  /** Tokens of a word. */
  idsOf(word: string): Int32Array {
    const remembered = this.words.get(word);
    if (remembered !== undefined) return remembered;
    const ids = this.vocabulary.spelling.kind === "bytes" ? this.ofBytes(word) : this.ofCharacters(word.replace(HALF, "\uFFFD"));
    if (word.length <= LONGEST_REMEMBERED) {
      if (this.words.size === REMEMBERED_WORDS) this.words.clear();
      this.words.set(word, ids);
    }
    return ids;
  }

  /** UTF-8 bytes that a token stands for; undefined for the unknown token, which stands for one character. */
  byteLength(id: number): number | undefined {
    const { kinds, tokens, spelling } = this.vocabulary;
    if (kinds[id] === "byte") return 1;
    if (kinds[id] === "unknown") return undefined;
    return spelling.kind === "bytes" ? tokens[id]!.length : byteLengthOf(tokens[id]!);
  }

  private ofBytes(word: string): Int32Array {
    const spelled = spellBytes(word);
    const whole = this.vocabulary.wholeWords ? this.textIdOf(spelled) : undefined;
    if (whole !== undefined) return Int32Array.of(whole);
    const symbols = this.symbolsFor(spelled.length);
    let count = 0;
    for (let i = 0; i < spelled.length; i++) {
      const id = this.ids.get(spelled[i]!);
      if (id !== undefined) symbols[count++] = id;
    }
    return symbols.slice(0, this.merger.merge(symbols, count));
  }

  private ofCharacters(word: string): Int32Array {
    const { breaks } = this.vocabulary.spelling as { readonly breaks: boolean };
    const whole = this.vocabulary.wholeWords || (breaks && word[0] === "\n") ? this.textIdOf(word) : undefined;
    if (whole !== undefined) return Int32Array.of(whole);
    const symbols = this.symbolsFor(word.length);
    let count = 0;
    for (const character of word) symbols[count++] = this.ids.get(character) ?? this.strangerIdOf(character);
    const merged = symbols.slice(0, this.merger.merge(symbols, count));
    return merged.every((id) => id < this.vocabulary.tokens.length)
      ? merged
      : Int32Array.from([...merged].flatMap((id) => this.inBytes(id)));
  }

  private inBytes(id: number): readonly number[] {
    if (id < this.vocabulary.tokens.length) return [id];
    const ids = Array.from(encoder.encode(this.textOf(id)), (byte) => this.byteIds[byte]);
    if (ids.every((each) => each !== undefined)) return ids as number[];
    const unknown = this.vocabulary.kinds.indexOf("unknown");
    return unknown < 0 ? [] : [unknown];
  }

  private byRank(merges: readonly string[]) {
    const ranks = new Map<string, number>();
    for (let rank = merges.length - 1; rank >= 0; rank--) ranks.set(merges[rank]!, rank); // the first of equal ones counts
    return (left: number, right: number): Merge | undefined => {
      const [leftText, rightText] = [this.textOf(left), this.textOf(right)];
      const priority = ranks.get(`${leftText} ${rightText}`);
      const id = priority === undefined ? undefined : this.textIdOf(leftText + rightText);
      return id === undefined ? undefined : { id, priority: priority! };
    };
  }

  private byScore(scores: readonly number[]) {
    return (left: number, right: number): Merge | undefined => {
      const id = this.textIdOf(this.textOf(left) + this.textOf(right));
      return id === undefined ? undefined : { id, priority: -scores[id]! };
    };
  }

  /** Text never becomes a control token, whatever the merges yield. */
  private textIdOf(text: string): number | undefined {
    const id = this.ids.get(text);
    return id !== undefined && this.vocabulary.kinds[id] === "control" ? undefined : id;
  }

  private textOf(id: number): string {
    return this.vocabulary.tokens[id] ?? this.strangers[id - this.vocabulary.tokens.length]!;
  }

  private strangerIdOf(character: string): number {
    let id = this.strangerIds.get(character);
    if (id === undefined) {
      id = this.vocabulary.tokens.length + this.strangers.push(character) - 1;
      this.strangerIds.set(character, id);
    }
    return id;
  }

  private symbolsFor(count: number): Int32Array {
    if (this.symbols.length < count) this.symbols = new Int32Array(2 * count);
    return this.symbols;
  }
}

/** One text being turned into tokens. Words and spelled-out tokens are found one after the other. */
class TextReading implements Reading {
  readonly ids: number[] = [];
  readonly ends: number[] = [];
  /** Empty until `isComposed`: a text to be composed is not read before all of it has been. */
  private text = "";
  private isComposed = false;
  private scanner: WordScanner | undefined;
  private readonly composition: Composition | undefined;
  private readonly spelled: SpelledTokens;
  private at = 0;
  /** The next spelled-out token; if undefined, none begins before `searched`. */
  private next: SpelledToken | undefined;
  private searched = 0;
  private wantsPrefix: boolean;

  constructor(
    source: string,
    private readonly vocabulary: Vocabulary,
    private readonly parts: Parts,
    { control = false, continues = false }: ReadOptions,
  ) {
    if (vocabulary.composed) this.composition = new Composition(source);
    else this.begin(source);
    this.spelled = control ? parts.spelledControl : parts.spelled;
    this.wantsPrefix = vocabulary.spelling.kind === "marked" && vocabulary.spelling.prefix !== "never" && !continues;
  }

  advance(characters: number): boolean {
    if (!this.isComposed && !this.compose(characters)) return true;
    const { text } = this;
    const until = Math.min(text.length, this.at + characters);
    while (this.at < until) {
      const limit = this.limit();
      if (this.at === limit) this.addSpelled();
      else this.addWord(limit);
    }
    return this.at < text.length;
  }

  /** Whether the text is whole now. */
  private compose(characters: number): boolean {
    if (this.composition!.advance(characters)) return false;
    this.begin(this.composition!.text);
    return true;
  }

  private begin(text: string): void {
    const { rules } = this.vocabulary;
    this.text = text;
    this.scanner = rules && new WordScanner(text, rules);
    this.isComposed = true;
  }

  /** How far a word that begins here may reach; at most to the next spelled-out token. */
  private limit(): number {
    const { text, at } = this;
    if (this.next === undefined && this.searched < Math.min(text.length, at + LONGEST_WORD)) {
      const from = Math.max(at, this.searched);
      this.searched = Math.min(text.length, at + 2 * LONGEST_WORD);
      this.next = this.spelled.find(text, from, this.searched, at);
    }
    return limitOf(text, at, this.next?.start ?? text.length);
  }

  private addSpelled(): void {
    const { id, end } = this.next!;
    this.ids.push(id);
    this.ends.push(this.sourceEnd(end));
    this.at = this.searched = end;
    this.next = undefined;
    this.wantsPrefix = this.vocabulary.spelling.kind === "marked" && this.vocabulary.spelling.prefix === "everywhere";
  }

  private addWord(limit: number): void {
    const { text, at } = this;
    const end = this.scanner?.endOfWord(at, limit) ?? this.endOfMarked(limit);
    const word = text.slice(at, end);
    const spelled = this.spell(word);
    this.addEnds(this.parts.idsOf(spelled), spelled, at - (spelled.length - word.length));
    this.at = end;
    this.wantsPrefix = false;
  }

  private spell(word: string): string {
    const { spelling } = this.vocabulary;
    if (spelling.kind === "bytes") return word;
    const spelled = word.replaceAll(" ", SPACE_SIGN);
    return this.wantsPrefix && (spelling.beforeSpace || !spelled.startsWith(SPACE_SIGN)) ? SPACE_SIGN + spelled : spelled;
  }

  /** Ends before a space, if no token of the vocabulary has a space after the character here. */
  private endOfMarked(limit: number): number {
    const { text, at, parts } = this;
    const { breaks } = this.vocabulary.spelling as { readonly breaks: boolean };
    const startsWithBreak = text[at] === "\n";
    for (let end = at + 1; end < limit; end++) {
      const unit = text.charCodeAt(end);
      if (breaks && startsWithBreak !== (unit === 10)) return end;
      if (!isSpace(unit)) continue;
      const before = text.charCodeAt(end - 1);
      if (!isSpace(before) && !parts.beforeSpace.has(before)) return end;
    }
    return limit;
  }

  /** A character belongs to the token with its last byte. */
  private addEnds(ids: Int32Array, word: string, start: number): void {
    let [covered, characters, at] = [0, 0, 0];
    for (const id of ids) {
      covered = Math.max(covered, characters) + (this.parts.byteLength(id) ?? byteLengthAt(word, at));
      while (at < word.length && characters + byteLengthAt(word, at) <= covered) {
        characters += byteLengthAt(word, at);
        at += word.codePointAt(at)! > 0xffff ? 2 : 1;
      }
      this.ids.push(id);
      this.ends.push(this.sourceEnd(Math.max(0, start + at)));
    }
    if (ids.length > 0) this.ends[this.ends.length - 1] = this.sourceEnd(start + word.length);
  }

  private sourceEnd(end: number): number {
    return this.composition?.sourceEnd(end) ?? end;
  }
}

function isSpace(unit: number): boolean {
  return unit === 32 || unit === 0x2581;
}

function idsByToken(tokens: readonly string[]): Map<string, number> {
  const ids = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) ids.set(tokens[id]!, id);
  return ids;
}

/** The characters, by their last UTF-16 unit, that precede a space within a token. */
function charactersBeforeSpace(tokens: readonly string[]): Set<number> {
  const before = new Set<number>();
  for (const token of tokens) {
    for (let at = token.indexOf(SPACE_SIGN, 1); at > 0; at = token.indexOf(SPACE_SIGN, at + 1)) {
      if (token[at - 1] !== SPACE_SIGN) before.add(token.charCodeAt(at - 1));
    }
  }
  return before;
}

function byteLengthOf(text: string): number {
  let length = 0;
  for (let at = 0; at < text.length; at += text.codePointAt(at)! > 0xffff ? 2 : 1) length += byteLengthAt(text, at);
  return length;
}

/** UTF-8 bytes of the character at `at`. */
function byteLengthAt(text: string, at: number): number {
  const codePoint = text.codePointAt(at)!;
  return codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
}
