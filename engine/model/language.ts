import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readCard, type ModelCard } from "./card.js";
import { createChatTemplate, plainChatTemplate } from "./chat-template.js";
import { endTokensOf } from "./end-tokens.js";
import type { SamplingOptions } from "../sampling.js";
import { samplingOf } from "./sampling-defaults.js";
import { type ChatTemplate, KvspliceError, type Tokenizer } from "../../plan/index.js";
import { createTokenizer } from "./tokenizers/index.js";
import { readContextLength } from "./arch/index.js";
import { readMetadata } from "./files/open.js";
import type { ModelMetadata } from "./files/model-file.js";

/** What of a model prompts are written with: all that needs no weights. */
export interface Language {
  readonly contextLength: number;
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
  /** Tokens that end an answer. */
  readonly endTokens: ReadonlySet<number>;
  /** How answers are drawn unless a caller says otherwise, where the model's files say so; else the likeliest token is taken. */
  readonly sampling: SamplingOptions;
  readonly card: ModelCard;
}

/**
 * Loads what counts and lays out tokens, and no weights: a third of `loadModel`'s time, and a few megabytes.
 *
 * @param options `path`: a GGUF file; the model that kvsplice carries when left out
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
  return { contextLength: readContextLength(metadata), tokenizer, chat, endTokens, sampling: samplingOf(metadata), card: await readCard(path, chat) };
}

function chatTemplateOf(metadata: ModelMetadata, control: ReadonlyMap<number, string>, addBos: boolean): ChatTemplate {
  const textOf = (name: string) => control.get(Number(metadata[`tokenizer.ggml.${name}_token_id`])) ?? "";
  const source = metadata["tokenizer.chat_template"];
  if (typeof source !== "string") return plainChatTemplate(addBos ? textOf("bos") : "");
  return createChatTemplate({ source, bos: textOf("bos"), eos: textOf("eos"), addBos });
}

/** The model in the package, from sources and from the build alike. */
export async function defaultModelPath(): Promise<string> {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const manifest = await readFile(join(folder, "package.json"), "utf8").catch(() => "{}");
    if ((JSON.parse(manifest) as { name?: string }).name === "kvsplice") return join(folder, "models", "kvsplice-135m.gguf");
    const parent = dirname(folder);
    if (parent === folder) throw new KvspliceError("bad_model", "The package's own model was not found. Install kvsplice again, or give a model's path.");
    folder = parent;
  }
}
