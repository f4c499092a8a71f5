import { KvspliceError } from "../../../plan/index.js";
import type { TokenKind, Vocabulary } from "./vocabulary.js";
import { PRE_TOKENIZERS } from "./word-rules.js";

type Metadata = Readonly<Record<string, unknown>>;

/** GGUF's `token_type`, from 1. */
const KINDS: readonly TokenKind[] = ["normal", "unknown", "control", "user-defined", "unused", "byte"];

/** Files often mark these tokens as plain text; llama.cpp treats them as control tokens regardless. */
const CONTROL = new Set(
  (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] " +
    "<|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~["
  ).split(" "),
);
/** And these, if the file does not set the token with its key. */
const CONTROL_BY_KEY: Readonly<Record<string, string>> = {
  fim_pre_token_id: "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> <|code_prefix|> <|prefix|>",
  fim_suf_token_id: "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> <|code_suffix|> <|suffix|>",
  fim_mid_token_id: "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> <|code_middle|> <|middle|>",
  fim_pad_token_id: "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
  fim_rep_token_id: "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
  fim_sep_token_id: "<|file_sep|>",
};

/** Phi-3's tokens that, unlike all its others, do not absorb the white space after them. */
const PHI3_PLAIN = new Set(["<unk>", "<s>", "<|endoftext|>"]);

/** @throws KvspliceError `bad_model` if the file's tokenizer is unsupported or incomplete */
export function vocabularyOfGguf(metadata: Metadata): Vocabulary {
  const tokens = listOf<string>(metadata, "tokens");
  const kinds = kindsOf(metadata, tokens);
  const tokenId = (name: string) => {
    const id = Number(metadata[`tokenizer.ggml.${name}_token_id`]);
    return Number.isInteger(id) && id < tokens.length ? id : undefined;
  };
  const framing = (begins: boolean) => ({
    begin: flag(metadata, "add_bos_token", begins) ? [tokenId("bos")].filter((id) => id !== undefined) : [],
    end: flag(metadata, "add_eos_token", false) ? [tokenId("eos")].filter((id) => id !== undefined) : [],
  });
  const phi3 = /phi-?3/i.test(String(metadata["general.name"]));
  const takesAfter = new Set(phi3 ? tokens.flatMap((token, id) => (isSpelled(kinds[id]!) && !PHI3_PLAIN.has(token) ? [id] : [])) : []);
  const common = { tokens, kinds, composed: false, takesAfter, takesBefore: new Set<number>() };

  const model = metadata["tokenizer.ggml.model"];
  switch (model) {
    case "llama":
      return {
        ...common,
        merging: { kind: "scores", scores: listOf<number>(metadata, "scores", tokens.length) },
        spelling: {
          kind: "marked",
          prefix: flag(metadata, "add_space_prefix", true) ? "everywhere" : "never",
          beforeSpace: true,
          breaks: false,
        },
        wholeWords: false,
        ...framing(true),
      };
    case "gpt2": {
      const name = String(metadata["tokenizer.ggml.pre"] ?? "");
      if (name === "") {
        throw new KvspliceError(
          "bad_model",
          "The model file does not say how text is split into words (tokenizer.ggml.pre), as in old files. Download or convert it again.",
        );
      }
      const pre = PRE_TOKENIZERS.get(name);
      if (pre === undefined) {
        throw new KvspliceError(
          "bad_model",
          `The model's pre-tokenizer ${name} is not supported. Supported: ${[...PRE_TOKENIZERS.keys()].join(", ")}.`,
        );
      }
      return {
        ...common,
        merging: { kind: "ranks", merges: listOf<string>(metadata, "merges", 0) },
        spelling: { kind: "bytes" },
        rules: pre.rules,
        wholeWords: pre.wholeWords ?? false,
        ...framing(pre.begins ?? false),
      };
    }
    case "gemma4":
      return {
        ...common,
        merging: { kind: "ranks", merges: listOf<string>(metadata, "merges", 0) },
        spelling: { kind: "marked", prefix: "never", beforeSpace: true, breaks: true },
        wholeWords: false,
        ...framing(true),
      };
    default:
      throw new KvspliceError(
        "bad_model",
        `The model's tokenizer has the type ${String(model)}; kvsplice supports byte-pair (gpt2, gemma4) and SentencePiece (llama).`,
      );
  }
}

function kindsOf(metadata: Metadata, tokens: readonly string[]): TokenKind[] {
  const types = metadata["tokenizer.ggml.token_type"] === undefined ? undefined : listOf<number>(metadata, "token_type", tokens.length);
  const control = new Set(CONTROL);
  for (const [key, names] of Object.entries(CONTROL_BY_KEY)) {
    if (metadata[`tokenizer.ggml.${key}`] === undefined) for (const name of names.split(" ")) control.add(name);
  }
  // In Gemma 4 it is plain text, and other tokens end answers.
  if (tokens.includes("<|tool_response>")) control.delete("</s>");
  return tokens.map((token, id) => (control.has(token) ? "control" : (KINDS[Number(types?.[id] ?? 1) - 1] ?? "unused")));
}

function isSpelled(kind: TokenKind): boolean {
  return kind === "control" || kind === "user-defined" || kind === "unknown";
}

function flag(metadata: Metadata, name: string, otherwise: boolean): boolean {
  const value = metadata[`tokenizer.ggml.${name}`];
  return typeof value === "boolean" ? value : otherwise;
}

/** @throws KvspliceError `bad_model` if the list is missing or shorter than `least` */
function listOf<T>(metadata: Metadata, name: string, least = 1): readonly T[] {
  const list = metadata[`tokenizer.ggml.${name}`];
  if (Array.isArray(list) && list.length >= least) return list as T[];
  throw new KvspliceError(
    "bad_model",
    `The model file has no tokenizer.ggml.${name}, or it is too short. Convert or download the model again.`,
  );
}
