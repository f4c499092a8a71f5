import { KvspliceError } from "../../../plan/index.js";
import type { Spelling, TokenKind, Vocabulary } from "./vocabulary.js";
import { BYTE_LEVEL_RULES, RULES_BY_PATTERN } from "./word-rules.js";
import type { WordRules } from "./words.js";

/** A part of Hugging Face's `tokenizer.json`: its `type` determines its fields. */
type Step = { readonly type: string } & Readonly<Record<string, unknown>>;

type AddedToken = {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
};

type TokenizerJson = {
  readonly added_tokens?: readonly AddedToken[];
  readonly normalizer?: Step | null;
  readonly pre_tokenizer?: Step | null;
  readonly post_processor?: Step | null;
  readonly model: Step & {
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges?: readonly (string | readonly [string, string])[];
    readonly byte_fallback?: boolean;
    readonly ignore_merges?: boolean;
    readonly unk_token?: string | null;
  };
};

const SPACE_SIGN = "\u2581";
const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

/**
 * The vocabulary of a Hugging Face folder, from the text of its `tokenizer.json`: byte-pair encoding over bytes or, with
 * SentencePiece's symbol for a space, over characters. Tokens are the same as in transformers.
 *
 * @throws KvspliceError `bad_model` for any other tokenizer, naming the unknown part
 */
export function vocabularyOfJson(text: string): Vocabulary {
  const json = parse(text);
  const { model } = json;
  if (model.type !== "BPE") throw unsupported("model", model);
  const tokens = tokensOf(json);
  const added = json.added_tokens ?? [];
  const byIds = (chosen: (token: AddedToken) => boolean) => new Set(added.filter(chosen).map(({ id }) => id));
  const bytes = isByteLevel(json.pre_tokenizer);
  const rules = bytes ? rulesOf(json.pre_tokenizer!) : undefined;
  return {
    tokens,
    kinds: kindsOf(json, tokens),
    merging: { kind: "ranks", merges: (model.merges ?? []).map((merge) => (typeof merge === "string" ? merge : merge.join(" "))) },
    spelling: bytes ? { kind: "bytes" } : spellingOf(json),
    ...(rules && { rules }),
    wholeWords: model.ignore_merges ?? false,
    composed: bytes && isComposed(json.normalizer),
    takesAfter: byIds(({ rstrip }) => rstrip),
    takesBefore: byIds(({ lstrip }) => lstrip),
    ...framingOf(json),
  };
}

function parse(text: string): TokenizerJson {
  let json: TokenizerJson | undefined;
  try {
    json = JSON.parse(text) as TokenizerJson;
  } catch (cause) {
    throw new KvspliceError("bad_model", "The model's tokenizer.json is not JSON. Download it again.", { cause });
  }
  if (typeof json?.model?.type === "string" && typeof (json.model.vocab ?? {}) === "object") return json;
  throw new KvspliceError("bad_model", "The model's tokenizer.json has no model. Download it again.");
}

/** By id; unused ids are empty. */
function tokensOf({ model, added_tokens = [], pre_tokenizer }: TokenizerJson): string[] {
  const named: (readonly [string, number])[] = [
    ...Object.entries(model.vocab),
    ...added_tokens.map(
      ({ id, content, special }) => [special || isByteLevel(pre_tokenizer) ? content : content.replaceAll(SPACE_SIGN, " "), id] as const,
    ),
  ];
  const tokens = new Array<string>(named.reduce((most, [, id]) => Math.max(most, id + 1), 0)).fill("");
  for (const [token, id] of named) tokens[id] = token;
  return tokens;
}

function kindsOf({ model, added_tokens = [] }: TokenizerJson, tokens: readonly string[]): TokenKind[] {
  const kinds = tokens.map((token): TokenKind => {
    if (token === "") return "unused";
    if (model.byte_fallback && BYTE_TOKEN.test(token)) return "byte";
    return token === model.unk_token ? "unknown" : "normal";
  });
  for (const { id, content, special } of added_tokens) {
    if (kinds[id] === "normal") kinds[id] = special || looksLikeControl(content) ? "control" : "user-defined";
  }
  return kinds;
}

/** Control tokens are not always marked as special; llama.cpp's converter also recognises them by their spelling. */
function looksLikeControl(token: string): boolean {
  return /^(?:<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|\[[^a-z]*[A-Z][^a-z]*\])$/s.test(token);
}

function stepsOf(step: Step | null | undefined, field: string): readonly Step[] {
  if (!step) return [];
  return step.type === "Sequence" ? (step[field] as readonly Step[]) : [step];
}

function isByteLevel(step: Step | null | undefined): boolean {
  return stepsOf(step, "pretokenizers").at(-1)?.type === "ByteLevel";
}

function isComposed(normalizer: Step | null | undefined): boolean {
  const steps = stepsOf(normalizer, "normalizers");
  for (const step of steps) if (step.type !== "NFC") throw unsupported("normalizer", step);
  return steps.length > 0;
}

function rulesOf(preTokenizer: Step): WordRules {
  const steps = stepsOf(preTokenizer, "pretokenizers");
  const byteLevel = steps.at(-1)!;
  const before = steps.slice(0, -1);
  if (byteLevel["add_prefix_space"] === true || before.length > 1) throw unsupported("pre_tokenizer", preTokenizer);
  const [first] = before;
  const ownPattern = byteLevel["use_regex"] !== false;
  if (first === undefined && ownPattern) return BYTE_LEVEL_RULES.plain;
  if (first?.type === "Digits" && first["individual_digits"] === true && ownPattern) return BYTE_LEVEL_RULES.digitsApart;
  const pattern = (first?.["pattern"] as { readonly Regex?: string } | undefined)?.Regex;
  const rules = first?.type === "Split" && !ownPattern && pattern !== undefined ? RULES_BY_PATTERN.get(canonical(pattern)) : undefined;
  if (rules === undefined) throw unsupported("pre_tokenizer", preTokenizer);
  return rules;
}

/** The expression in its most common form: possessive quantifiers make no difference here, and spaces end at the last break. */
function canonical(pattern: string): string {
  return pattern
    .replace("'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)")
    .replaceAll("?+", "?")
    .replaceAll("++", "+")
    .replace("|\\s*[\\r\\n]|", "|\\s*[\\r\\n]+|");
}

/** SentencePiece's spelling, which has three forms: a normaliser, a pre-tokenizer, and one that adds nothing to the first. */
function spellingOf({ normalizer, pre_tokenizer }: TokenizerJson): Spelling {
  let prefix: "everywhere" | "first" | "never" = "never";
  let [marked, beforeSpace] = [false, true];
  for (const step of stepsOf(normalizer, "normalizers")) {
    const from = (step["pattern"] as { readonly String?: string } | undefined)?.String;
    if (step.type === "Prepend" && step["prepend"] === SPACE_SIGN) prefix = "everywhere";
    else if (step.type === "Replace" && from === " " && step["content"] === SPACE_SIGN) marked = true;
    else throw unsupported("normalizer", step);
  }
  for (const step of stepsOf(pre_tokenizer, "pretokenizers")) {
    const splitsAt = (step["pattern"] as { readonly String?: string } | undefined)?.String;
    if (step.type === "Split" && splitsAt === " " && marked) continue;
    if (step.type !== "Metaspace" || step["replacement"] !== SPACE_SIGN || step["split"] !== false)
      throw unsupported("pre_tokenizer", step);
    [marked, beforeSpace] = [true, false];
    const scheme = step["prepend_scheme"] ?? "always";
    prefix = scheme === "always" ? "everywhere" : scheme === "first" ? "first" : "never";
  }
  if (!marked) throw unsupported("pre_tokenizer", pre_tokenizer ?? { type: "null" });
  return { kind: "marked", prefix, beforeSpace, breaks: false };
}

function framingOf({ post_processor }: TokenizerJson): { readonly begin: number[]; readonly end: number[] } {
  type Part = { readonly SpecialToken?: { readonly id: string }; readonly Sequence?: object };
  const template = stepsOf(post_processor, "processors").find(({ type }) => type === "TemplateProcessing");
  const parts = (template?.["single"] ?? []) as readonly Part[];
  const special = (template?.["special_tokens"] ?? {}) as Readonly<Record<string, { readonly ids: readonly number[] }>>;
  const text = parts.findIndex(({ Sequence }) => Sequence !== undefined);
  const idsOf = (some: readonly Part[]) => some.flatMap(({ SpecialToken }) => [...(special[SpecialToken?.id ?? ""]?.ids ?? [])]);
  return { begin: idsOf(parts.slice(0, Math.max(0, text))), end: idsOf(parts.slice(text + 1)) };
}

function unsupported(part: string, step: Step): KvspliceError {
  const shown = JSON.stringify(step, (key, value: unknown) => (key === "vocab" || key === "merges" ? undefined : value));
  return new KvspliceError(
    "bad_model",
    `The model's tokenizer.json has a ${part} that is not supported: ${shown.length > 300 ? `${shown.slice(0, 300)}…` : shown}. Use the model's GGUF file.`,
  );
}
