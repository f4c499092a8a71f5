import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createTokenizer } from "../../../engine/model/tokenizers/index.js";
import { vocabularies } from "./golden.js";

type Case = { readonly name: string; readonly vocabulary: keyof typeof vocabularies; readonly json: { readonly model: object }; readonly ids: readonly string[]; readonly framed: readonly number[] };

/** What Hugging Face's tokenizers makes of texts with the small vocabularies, as `tokenizer.json` of each kind. */
const golden = JSON.parse(readFileSync(join(import.meta.dirname, "../../golden/tokenizers/hugging-face.json"), "utf8")) as {
  readonly texts: readonly string[];
  readonly markedMerges: readonly string[];
  readonly cases: readonly Case[];
};

function jsonOf({ vocabulary, json }: Case, changes: object = {}): string {
  const metadata = vocabularies[vocabulary];
  const tokens = metadata["tokenizer.ggml.tokens"] as readonly string[];
  const types = metadata["tokenizer.ggml.token_type"] as readonly number[];
  return JSON.stringify({
    ...json,
    added_tokens: tokens.flatMap((content, id) =>
      [2, 3, 4].includes(types[id]!) ? [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: types[id] === 3 }] : [],
    ),
    model: {
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: vocabulary === "bytes" ? metadata["tokenizer.ggml.merges"] : golden.markedMerges,
      ...json.model,
    },
    ...changes,
  });
}

const tokenizerOf = (json: string) => createTokenizer({ "tokenizer.huggingface.json": json }).tokenizer;

describe.each(golden.cases)("tokenizer.json as of $name", (each) => {
  const tokenizer = tokenizerOf(jsonOf(each));

  test("ids are Hugging Face's", () => {
    golden.texts.forEach((text, index) => {
      // There a control token that a text spells out is one; here it is where control text is read.
      expect(tokenizer.encode(text, { control: true }).join(" "), JSON.stringify(text)).toBe(each.ids[index]);
    });
    expect([...tokenizer.begin, ...tokenizer.encode("x"), ...tokenizer.end]).toEqual(each.framed);
  });

  test("ends are of the text as it was given, composed or not", () => {
    for (const text of golden.texts) {
      const reading = tokenizer.read(text);
      while (reading.advance(5));
      const { ends } = reading;
      expect([...ends].sort((a, b) => a - b)).toEqual(ends);
      expect(ends.at(-1) ?? 0).toBe(text.length);
    }
  });
});

const [plain] = golden.cases;
test.for([
  ["{", "is not JSON"],
  ["{}", "has no model"],
  [jsonOf(plain!, { model: { type: "Unigram", vocab: [] } }), 'a model that is not supported: {"type":"Unigram"}'],
  [jsonOf(plain!, { pre_tokenizer: { type: "BertPreTokenizer" } }), "BertPreTokenizer"],
  [jsonOf(plain!, { pre_tokenizer: { type: "ByteLevel", add_prefix_space: true } }), "a pre_tokenizer that is not supported"],
  [jsonOf(plain!, { normalizer: { type: "NFKC" } }), 'a normalizer that is not supported: {"type":"NFKC"}'],
] as const)("%# is an error that names what is not known: %s", ([json, message]) => {
  expect(() => tokenizerOf(json)).toThrow(expect.objectContaining({ code: "bad_model", message: expect.stringContaining(message) }));
});
