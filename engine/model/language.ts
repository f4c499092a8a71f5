import type { ChatTemplate, Tokenizer } from "../../plan/index.js";
import type { SamplingOptions } from "../sampling.js";
import { readContextLength } from "./arch/index.js";
import { type ModelCard, readCard } from "./card.js";
import { carriedFile } from "./carried.js";
import { createChatTemplate, plainChatTemplate } from "./chat-template.js";
import { endTokensOf } from "./end-tokens.js";
import type { ModelMetadata } from "./files/model-file.js";
import { readMetadata } from "./files/open.js";
import { samplingOf } from "./sampling-defaults.js";
import { createTokenizer } from "./tokenizers/index.js";

/** What prompts for a model are written with: everything that needs no weights. */
export interface Language {
  readonly contextLength: number;
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  /** Tokens that end an answer. */
  readonly endTokens: ReadonlySet<number>;
  /** How answers are drawn by default, if the model's files say so; otherwise the likeliest token is taken. */
  readonly sampling: SamplingOptions;
  readonly card: ModelCard;
}

/**
 * Loads what counts and lays out tokens, without weights: a third of `loadModel`'s time, and a few megabytes.
 *
 * @param options `path`: a GGUF file; the model that comes with kvsplice if omitted
 * @throws KvspliceError `bad_model` if the file cannot be read, or its tokenizer or chat template is not supported
 */
export async function loadTokenizer(options: { readonly path?: string } = {}): Promise<Language> {
  const path = options.path ?? (await defaultModelPath());
  return languageOf(path, readMetadata(path));
}

export async function languageOf(path: string, metadata: ModelMetadata): Promise<Language> {
  const { tokenizer, control } = createTokenizer(metadata);
  const chat = chatTemplateOf(metadata, control, tokenizer.begin.length > 0);
  const endTokens = endTokensOf(metadata, control);
  return {
    contextLength: readContextLength(metadata),
    tokenizer,
    chat,
    endTokens,
    sampling: samplingOf(metadata),
    card: await readCard(path, chat),
  };
}

function chatTemplateOf(metadata: ModelMetadata, control: ReadonlyMap<number, string>, addBos: boolean): ChatTemplate {
  const textOf = (name: string) => control.get(Number(metadata[`tokenizer.ggml.${name}_token_id`])) ?? "";
  const source = metadata["tokenizer.chat_template"];
  if (typeof source !== "string") return plainChatTemplate(addBos ? textOf("bos") : "");
  return createChatTemplate({ source, bos: textOf("bos"), eos: textOf("eos"), addBos });
}

/** The model that comes with kvsplice. @throws KvspliceError `bad_model` if it is not installed */
export async function defaultModelPath(): Promise<string> {
  return carriedFile("kvsplice-135m.gguf", "@kvsplice/model-135m");
}
