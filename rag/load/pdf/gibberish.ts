/** Fewer letters than this prove nothing. */
const LEAST_LETTERS = 40;

/** Characters that no text contains, from fonts whose codes have no meaning in Unicode. */
const MEANINGLESS = /[\p{Co}\p{Cn}\ufffd\0-\x08\x0e-\x1f]/gu;
const MOST_MEANINGLESS = 0.1;

/**
 * In languages in Latin script, 30 to 50 % of a text's letters are vowels; letters that replace others (codes shifted by
 * a fixed number, an accidental cipher) have fewer.
 */
const LEAST_VOWELS = 0.2;

/** Whether a page's text comes from a font without a Unicode map: characters that spell nothing. */
export function isGibberish(text: string): boolean {
  const characters = Array.from(text.replace(/\s+/g, ""));
  if (characters.length < LEAST_LETTERS) return false;
  if ((text.match(MEANINGLESS)?.length ?? 0) > MOST_MEANINGLESS * characters.length) return true;
  const letters = text.normalize("NFD").match(/\p{Script=Latin}/gu) ?? [];
  if (letters.length < LEAST_LETTERS || letters.length < characters.length / 2) return false;
  return letters.filter((letter) => /[aeiouyæœøı]/i.test(letter)).length < LEAST_VOWELS * letters.length;
}
