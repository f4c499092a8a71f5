import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { GraphWriter } from "../../../engine/backend/cpu/onnx.js";

const WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "passage", ":", "red", "green", "blue"];
export const TINY_DIMENSIONS = 10;

/** The vector of a token has a 1 at its word's index in the vocabulary. */
export function placeOf(word: string): number {
  return WORDS.indexOf(word);
}

function graph(output: string): Uint8Array {
  const writer = new GraphWriter();
  const ids = writer.input("input_ids", "int64", ["batch", "length"]);
  writer.input("attention_mask", "int64", ["batch", "length"]);
  const table = Float32Array.from({ length: WORDS.length * TINY_DIMENSIONS }, (_, index) => (index % (TINY_DIMENSIONS + 1) === 0 ? 1 : 0));
  writer.node("Gather", [writer.weight(table, [WORDS.length, TINY_DIMENSIONS]), ids], { axis: 0 }, [output]);
  writer.output(output, ["batch", "length", TINY_DIMENSIONS]);
  return writer.encodeWhole();
}

function tokenizer(): string {
  const special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map((content, id) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  }));
  const around = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  return JSON.stringify({
    version: "1.0",
    added_tokens: special,
    normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [around("[CLS]"), { Sequence: { id: "A", type_id: 0 } }, around("[SEP]")],
      pair: [],
      special_tokens: Object.fromEntries(["[CLS]", "[SEP]"].map((id) => [id, { id, ids: [WORDS.indexOf(id)], tokens: [id] }])),
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(WORDS.map((word, id) => [word, id])),
    },
  });
}

/** A sentence encoder's files by path, as in a repository: ONNX without token types, tokenizer, configuration. */
export function tinyEncoderFiles(more: Readonly<Record<string, object>> = {}, output = "last_hidden_state"): Record<string, Buffer> {
  const files: Record<string, Buffer> = {
    "onnx/model.onnx": Buffer.from(graph(output)),
    "tokenizer.json": Buffer.from(tokenizer()),
    "config.json": Buffer.from('{"pad_token_id": 0, "max_position_embeddings": 8}'),
  };
  for (const [name, content] of Object.entries(more)) files[name] = Buffer.from(JSON.stringify(content));
  return files;
}

export function writeFiles(folder: string, files: Readonly<Record<string, Buffer>>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
}
