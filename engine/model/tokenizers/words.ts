import { classOf, LETTER, MARK, NUMBER, SPACE } from "./characters.js";

/**
 * How text is split into words before their tokens are found. The pre-tokenizers of byte-pair models are regular expressions
 * with the same alternatives in the same order; these are the differences. Nothing looks back before the start of a word,
 * so words are found one after the other, each in time linear in its length.
 */
export type WordRules = {
  /** `'s 't 're 've 'm 'll 'd`: separate words, or the end of the previous word, in any case (ASCII) or only lower case. */
  readonly contractions: "none" | "words" | "words-any-case" | "ends-any-case";
  /** Which single character may precede letters: a space, or anything but a line break, a letter or a number. */
  readonly before: "space" | "any";
  /** Bits of the characters in a word; `small` if capitals begin a word and small letters end it (`HelloWorld` is two words). */
  readonly letters: number | { readonly capital: number; readonly small: number };
  /** Maximum number of digits in a word. "apart" means one, without a preceding space. */
  readonly digits: 1 | 3 | "all" | "apart";
  /** Line breaks and other characters that a word of symbols includes at its end. */
  readonly tail: "" | "\r\n" | "\r\n/";
  /** Whether white space up to a line break is a word. */
  readonly breaks: boolean;
};

/** Longer words are cut, so that every step is short however long a text without word boundaries is. */
export const LONGEST_WORD = 4_096;

/** The furthest that one word may reach, without splitting a character. */
export function limitOf(text: string, start: number, end: number): number {
  if (end - start <= LONGEST_WORD) return end;
  const limit = start + LONGEST_WORD;
  return isSecondHalf(text.charCodeAt(limit)) ? limit - 1 : limit;
}

export function isSecondHalf(unit: number): boolean {
  return unit >= 0xdc00 && unit < 0xe000;
}

/** Finds the words of one text. */
export class WordScanner {
  private end = 0;

  constructor(
    private readonly text: string,
    private readonly rules: WordRules,
  ) {}

  /**
   * Where the word ends that begins at `start`.
   * @param end later text is ignored; greater than `start`
   */
  endOfWord(start: number, end: number): number {
    this.end = end;
    const { rules } = this;
    if (rules.contractions === "words" || rules.contractions === "words-any-case") {
      const length = this.contraction(start, rules.contractions === "words-any-case");
      if (length > 0) return start + length;
    }
    const letters = this.endOfLetters(start);
    if (letters > start) return letters;
    const numbers = this.endOfNumbers(start);
    if (numbers > start) return numbers;
    const others = this.endOfOthers(start);
    if (others > start) return others;
    return this.endOfSpaces(start);
  }

  private endOfLetters(start: number): number {
    const { letters } = this.rules;
    const inner = this.afterBefore(start);
    if (typeof letters === "number") {
      const end = inner > start ? this.run(inner, letters) : inner;
      return end > inner ? end : this.run(start, letters);
    }
    for (const ending of [this.smallEnd, this.capitalEnd]) {
      for (const from of inner > start ? [inner, start] : [start]) {
        const end = ending.call(this, from, letters);
        if (end > from) return this.rules.contractions === "ends-any-case" ? end + this.contraction(end, true) : end;
      }
    }
    return start;
  }

  /** `capital* small+`, greedy: characters that are both go to the capitals first and are given up one by one. */
  private smallEnd(start: number, { capital, small }: { readonly capital: number; readonly small: number }): number {
    let lastSmall = start;
    let at = start;
    for (let bits = this.classAt(at); bits & capital; bits = this.classAt(at)) {
      at = this.next(at);
      if (bits & small) lastSmall = at;
    }
    return this.classAt(at) & small ? this.run(at, small) : lastSmall;
  }

  /** `capital+ small*` after `smallEnd` has found nothing, so no small letter follows. */
  private capitalEnd(start: number, { capital }: { readonly capital: number }): number {
    return this.run(start, capital);
  }

  /** After the single character that may precede letters. */
  private afterBefore(start: number): number {
    const unit = this.text.charCodeAt(start);
    if (this.rules.before === "space") return unit === 32 ? start + 1 : start;
    return unit === 13 || unit === 10 || this.classAt(start) & (LETTER | NUMBER) ? start : this.next(start);
  }

  private endOfNumbers(start: number): number {
    const { digits } = this.rules;
    switch (digits) {
      case "all": {
        const from = this.text.charCodeAt(start) === 32 ? start + 1 : start;
        const end = this.run(from, NUMBER);
        return end > from ? end : start;
      }
      case "apart":
        return this.run(start, NUMBER, 1);
      default:
        return this.run(start, NUMBER, digits);
    }
  }

  private endOfOthers(start: number): number {
    const { letters, tail } = this.rules;
    const known = SPACE | LETTER | NUMBER | (typeof letters === "number" ? letters & MARK : 0);
    const from = this.text.charCodeAt(start) === 32 ? start + 1 : start;
    let at = from;
    while (at < this.end && !(this.classAt(at) & known)) at = this.next(at);
    if (at === from) return start;
    while (tail !== "" && at < this.end && tail.includes(this.text[at]!)) at++;
    return at;
  }

  private endOfSpaces(start: number): number {
    const { breaks, digits } = this.rules;
    let [at, afterBreak] = [start, start];
    while (this.classAt(at) & SPACE) {
      const unit = this.text.charCodeAt(at++);
      if (unit === 10 || unit === 13) afterBreak = at;
    }
    if (breaks && afterBreak > start) return afterBreak;
    const wordFollows = at < this.end && !(digits === "apart" && this.classAt(at) & NUMBER);
    if (at - start > 1 && wordFollows) return at - 1;
    return at > start ? at : this.next(start);
  }

  private run(start: number, bits: number, most = Infinity): number {
    let at = start;
    for (let count = 0; count < most && this.classAt(at) & bits; count++) at = this.next(at);
    return at;
  }

  /** Its length, or 0. */
  private contraction(start: number, anyCase: boolean): number {
    if (this.text.charCodeAt(start) !== 39) return 0;
    const rest = this.text.slice(start + 1, Math.min(start + 3, this.end));
    const letters = anyCase && /^[A-Za-z]+/.test(rest) ? rest.replace(/[A-Z]/g, (letter) => letter.toLowerCase()) : rest;
    if (/^[stmd]/.test(letters)) return 2;
    return /^(?:re|ve|ll)$/.test(letters) ? 3 : 0;
  }

  /** 0 after the end. */
  private classAt(at: number): number {
    return at < this.end ? classOf(this.text.codePointAt(at)!) : 0;
  }

  private next(at: number): number {
    return this.text.codePointAt(at)! > 0xffff ? at + 2 : at + 1;
  }
}
