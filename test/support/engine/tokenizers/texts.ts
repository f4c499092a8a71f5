/** About two hundred texts of all kinds, times `times`, for comparing tokenizers; the same on every call. */
export function texts(times = 1): string[] {
  let state = 7;
  const below = (n: number) => ((state = (state * 1103515245 + 12345) & 0x7fffffff) >> 8) % n;
  const pick = <T>(from: readonly T[]): T => from[below(from.length)]!;
  const many = (kinds: readonly (readonly string[])[], count: number, most: number) =>
    Array.from({ length: count * times }, () => Array.from({ length: 1 + below(most) }, () => pick(pick(kinds))).join(""));
  return [
    ...GIVEN,
    ...many([WORDS, [" "]], 12, 10),
    ...many([WORDS, SPACES, SPACES], 35, 8),
    ...many([DIGITS, DIGITS, [" ", ".", ",", "a"]], 20, 14),
    ...many([CONTRACTED], 25, 7),
    ...many([SCRIPTS, [" "], PUNCTUATION], 25, 8),
    ...many([MARKS, ["e", "a", " ", "n"]], 15, 8),
    ...many([EMOJI, WORDS, [" "]], 15, 7),
    ...many([CONTROL, SPACES, WORDS], 25, 5),
    ...many([LATER, WORDS, DIGITS, PUNCTUATION], 15, 8),
    ...Array.from({ length: times }, () => RUNS.map((part) => part.repeat(20 + below(60)))).flat(),
  ];
}

const GIVEN = [
  "",
  " ",
  "Hello, world!",
  "The model reads the documents\nand answers.",
  "function f(x) {\n    return x + 1; // done\n}\n",
  "a\r\n\r\n  b\r\n",
  "HTTPServer and JSONValue, getHTTPResponseCode",
  "x\n\n\n\ny\n\n",
  "/usr/lib/x86_64\n//",
  "\ud800a\udc00",
  "\ufeffBOM",
  "2,147,483,647",
];
const WORDS = "the model of Tokens KV don't WE'LL cache naïve Café ÉCOLE straße ﬁ İstanbul ǅ prompts O'Neil 'Twas reads blocks".split(" ");
const SPACES = [
  " ",
  "  ",
  "   ",
  "\t",
  "\n",
  "\r\n",
  "\r",
  "\u00a0",
  "\u3000",
  "\u2028",
  "\u200b",
  "\ufeff",
  "\v",
  "\f",
  "\u0085",
  "\u1680",
  "\u180e",
  "\u2003",
  "\u2581",
];
const DIGITS = ["0", "1", "7", "9", "42", "٣", "५", "Ⅷ", "½", "²", "①", "𝟘"];
const CONTRACTED = ["'", "’", "S", "s", "ll", "LL", "re", "T", "t", " ", "a", "1", "ſ", "K", "'s", "'S", "'VE", "İ", "'d", "'M"];
const SCRIPTS = ["中", "文", "字", "の", "ひ", "カ", "한", "국", "ع", "ر", "ب", "ह", "ि", "न", "ж", "Ж", "ไ", "ท", "Ω", "ω", "ª", "ʼ", "ƻ"];
const PUNCTUATION = [..."!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¿¡«»„“”…–—·•€£°"];
const MARKS = ["\u0301", "\u0308", "\u0323", "\u200d", "\ufe0f", "\u0e34", "\u093f"];
const EMOJI = ["😀", "👩‍👩‍👧‍👦", "🇩🇪", "🏳️‍🌈", "👍🏽", "❤️", "☃", "⃣", "1️⃣"];
const CONTROL = [
  "<think>",
  "</think>",
  "<|im_start|>",
  "<|im_end|>",
  "<|endoftext|>",
  "</s>",
  "<s>",
  "<unk>",
  "<|user|>",
  "<|end|>",
  "<0x0A>",
];
const RUNS = ["a", "ab", "=", " ", "1", "中", "😀", "\n", "ha", "A", "éA"];
/** Characters of Unicode 15.1, 16 and 17. */
const LATER = ["\u{2ebf0}", "\u{a7cb}", "\u{10d40}", "\u{1c89}", "\u{33479}", "\u{897}"];
