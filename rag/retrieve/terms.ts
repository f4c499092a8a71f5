/** Runs of letters, digits and the marks that belong to them: anything in between separates words. */
const WORDS = /[\p{L}\p{N}\p{M}]+/gu;

/** Scripts written without spaces between words, and Hangul, whose particles are attached to words. */
const UNSPACED =
  /(?:[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Hangul}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}\p{scx=Tibetan}]\p{M}*)+/gu;

/** Marks that people leave out when typing: accents, the points of Arabic and Hebrew, and the tatweel. */
const OPTIONAL_MARKS = /(?<=[\p{sc=Latin}\p{sc=Greek}\p{sc=Arabic}\p{sc=Hebrew}]\p{M}*)\p{M}|\u0640/gu;

/** The last letter of a shorter word is rarely an ending. */
const SHORTEST_INFLECTED = 4;

/**
 * The terms by which a text is found, in order, the same for a chunk and a question.
 *
 * - Letters that look alike are the same (NFKC, case): ligatures, full width, composed and decomposed letters, Arabic
 *   presentation forms.
 * - A script without spaces yields each letter and each pair of adjacent letters, like CJK analysers: without a dictionary,
 *   chunk and question are always cut the same way.
 * - A word in Latin letters loses the plural's final s (English, French, Spanish, Portuguese have it), but no other ending:
 *   cutting more in one language would merge different words of another.
 */
export function termsOf(text: string): string[] {
  return spell(text, (letters) => [...letters, ...pairs(letters)]);
}

/** For a question: pairs of letters say more than single letters, so only isolated letters are searched for. */
export function termsOfQuestion(text: string): string[] {
  return spell(text, (letters) => (letters.length === 1 ? [...letters] : pairs(letters)));
}

function spell(text: string, unspaced: (letters: readonly string[]) => string[]): string[] {
  const plain = text.normalize("NFKC").toUpperCase().toLowerCase().normalize("NFD").replace(OPTIONAL_MARKS, "").normalize("NFC");
  const terms: string[] = [];
  for (const [word] of plain.matchAll(WORDS)) {
    let end = 0;
    for (const { 0: run, index } of word.matchAll(UNSPACED)) {
      if (index > end) terms.push(singular(word.slice(end, index)));
      terms.push(...unspaced(run.match(/\P{M}\p{M}*/gu) ?? []));
      end = index + run.length;
    }
    if (end < word.length) terms.push(singular(word.slice(end)));
  }
  return terms;
}

function pairs(letters: readonly string[]): string[] {
  return letters.slice(1).map((letter, index) => letters[index]! + letter);
}

/** The S-stemmer of Harman's "How effective is suffixing?" (JASIS 1991), except that -es is removed after a sibilant. */
function singular(word: string): string {
  if (word.length < SHORTEST_INFLECTED || !/^[a-z]+$/.test(word)) return word;
  const one = /[^ae]ies$/.test(word) ? `${word.slice(0, -3)}y` : /[^sui]s$/.test(word) ? word.slice(0, -1) : word;
  return one.replace(/(?<=(?:[sxz]|[cs]h))e$/, "");
}
