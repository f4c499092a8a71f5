import type { Tokenizer } from "../../../plan/index.js";
import { vocabularyOfGguf } from "./gguf-vocabulary.js";
import { vocabularyOfJson } from "./json-vocabulary.js";
import { VocabularyTokenizer } from "./tokenizer.js";

/** The text of each control token, by id; for templates. */
export type ControlTokens = ReadonlyMap<number, string>;

/**
 * @param metadata GGUF's keys; if they contain no tokens, `tokenizer.huggingface.json` is the text of a `tokenizer.json`
 * @throws KvspliceError `bad_model` if the model's tokenizer is not supported
 */
export function createTokenizer(metadata: Readonly<Record<string, unknown>>): { tokenizer: Tokenizer; control: ControlTokens } {
  const json = metadata["tokenizer.huggingface.json"];
  const vocabulary =
    typeof json === "string" && metadata["tokenizer.ggml.tokens"] === undefined ? vocabularyOfJson(json) : vocabularyOfGguf(metadata);
  const control = new Map(vocabulary.tokens.flatMap((token, id) => (vocabulary.kinds[id] === "control" ? [[id, token] as const] : [])));
  return { tokenizer: new VocabularyTokenizer(vocabulary), control };
}
