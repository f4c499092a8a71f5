import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { KvspliceError, type Tokenizer } from "../../../plan/index.js";

/** The text of each control token, by id; for templates. */
export type ControlTokens = ReadonlyMap<number, string>;

/** GGUF's `token_type`: control tokens steer the model and are never made of text. */
const CONTROL_TYPE = 3;

const GPT2 = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
const split = (regex: string) => ({
  type: "Sequence",
  pretokenizers: [
    { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false },
    { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
  ],
});

/** How text falls into words before byte-pair encoding, by GGUF's name for it (`tokenizer.ggml.pre`). */
const PRE_TOKENIZERS: Record<string, object> = {
  "gpt-2": GPT2,
  smollm: { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, GPT2] },
  "llama-bpe": split("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
  qwen2: split("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
};

/** @throws KvspliceError `bad_model` if the file's tokenizer is of a kind that is not supported. */
export function createTokenizer(metadata: Readonly<Record<string, unknown>>): { tokenizer: Tokenizer; control: ControlTokens } {
  const pre = PRE_TOKENIZERS[String(metadata["tokenizer.ggml.pre"] ?? "gpt-2")];
  if (metadata["tokenizer.ggml.model"] !== "gpt2" || !pre) {
    throw new KvspliceError(
      "bad_model",
      `Tokenizer ${String(metadata["tokenizer.ggml.model"])}/${String(metadata["tokenizer.ggml.pre"])} is not supported; use a byte-pair model with pre-tokenizer ${Object.keys(PRE_TOKENIZERS).join(", ")}.`,
    );
  }
  const tokens = metadata["tokenizer.ggml.tokens"] as string[];
  const types = metadata["tokenizer.ggml.token_type"] as number[];
  const bytePair = new HuggingFaceTokenizer(
    {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: pre,
      post_processor: null,
      decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
      model: { type: "BPE", vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges: metadata["tokenizer.ggml.merges"], unk_token: null },
    },
    { clean_up_tokenization_spaces: false },
  );
  const control = new Map(tokens.flatMap((token, id) => (types[id] === CONTROL_TYPE ? [[id, token] as const] : [])));
  const idOf = new Map([...control].map(([id, token]) => [token, id]));
  const spelled = new RegExp(`(${[...idOf.keys()].map(escapeRegExp).join("|")})`);
  const encodeText = (text: string): number[] => (text === "" ? [] : bytePair.encode(text, { add_special_tokens: false }).ids);
  return {
    control,
    tokenizer: {
      encode: (text, options = {}) =>
        options.control && idOf.size > 0 ? text.split(spelled).flatMap((part) => idOf.get(part) ?? encodeText(part)) : encodeText(text),
      decode(ids) {
        const text = ids.filter((id) => !control.has(id));
        return text.length === 0 ? "" : bytePair.decode(text, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
      },
    },
  };
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
