import { CAPITAL, LETTER, MARK, NOT_ASCII_CAPITAL, NOT_ASCII_SMALL, SMALL } from "./characters.js";
import type { WordRules } from "./words.js";

/** A byte-pair tokenizer's pre-tokenizer, and the other settings that llama.cpp derives from its name (`llama-vocab.cpp`). */
export type PreTokenizer = {
  readonly rules: WordRules;
  /** A word that is in the vocabulary is one token, whatever the merges say. */
  readonly wholeWords?: boolean;
  /** Whether a prompt begins with the beginning-of-text token if the file does not specify it. */
  readonly begins?: boolean;
};

const GPT2: WordRules = { contractions: "words", before: "space", letters: LETTER, digits: "all", tail: "", breaks: false };
const DIGITS_APART: WordRules = { ...GPT2, digits: "apart" };
const LLAMA3: WordRules = { contractions: "words-any-case", before: "any", letters: LETTER, digits: 3, tail: "\r\n", breaks: true };
const QWEN2: WordRules = { ...LLAMA3, digits: 1 };
const QWEN35: WordRules = { ...QWEN2, letters: LETTER | MARK };
/** llama.cpp's regular expressions only distinguish case in ASCII; transformers' do in all of Unicode. */
const ASCII_CASE = { capital: NOT_ASCII_SMALL, small: NOT_ASCII_CAPITAL };
const UNICODE_CASE = { capital: CAPITAL, small: SMALL };
const TEKKEN: WordRules = { contractions: "none", before: "any", letters: ASCII_CASE, digits: 1, tail: "\r\n/", breaks: true };
const GPT4O: WordRules = { ...TEKKEN, contractions: "ends-any-case", digits: 3 };

const named = (names: string, preTokenizer: PreTokenizer) => names.split(" ").map((name) => [name, preTokenizer] as const);

/** By GGUF's `tokenizer.ggml.pre`. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ...named("gpt-2 phi-2 jina-es jina-de gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling", { rules: GPT2 }),
  ...named("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", { rules: DIGITS_APART }),
  ...named("llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2", { rules: LLAMA3, wholeWords: true, begins: true }),
  ...named("dbrx smaug-bpe glm4 chatglm-bpe", { rules: LLAMA3 }),
  ...named("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", { rules: QWEN2 }),
  ...named("qwen35", { rules: QWEN35 }),
  ...named("tekken", { rules: TEKKEN, wholeWords: true, begins: true }),
  ...named("gpt-4o llama4 kanana2 talkie minimax-m2", { rules: GPT4O }),
]);

const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const OTHERS_AND_SPACES = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const CAPITALS = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const SMALLS = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const NOT_WORD = "[^\\r\\n\\p{L}\\p{N}]?";
const cased = (ending: string, digits: string) =>
  `${NOT_WORD}${CAPITALS}*${SMALLS}+${ending}|${NOT_WORD}${CAPITALS}+${SMALLS}*${ending}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** By the regular expression written out in a `tokenizer.json`. */
export const RULES_BY_PATTERN: ReadonlyMap<string, WordRules> = new Map([
  [`${CONTRACTION}|${NOT_WORD}\\p{L}+|\\p{N}{1,3}|${OTHERS_AND_SPACES}`, LLAMA3],
  [`${CONTRACTION}|${NOT_WORD}\\p{L}+|\\p{N}|${OTHERS_AND_SPACES}`, QWEN2],
  [`${CONTRACTION}|${NOT_WORD}[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`, QWEN35],
  [cased("", "\\p{N}"), { ...TEKKEN, letters: UNICODE_CASE }],
  [cased(`${CONTRACTION}?`, "\\p{N}{1,3}"), { ...GPT4O, letters: UNICODE_CASE }],
]);

/** `ByteLevel` with its own regular expression, and with `Digits` before it. */
export const BYTE_LEVEL_RULES = { plain: GPT2, digitsApart: DIGITS_APART } as const;
