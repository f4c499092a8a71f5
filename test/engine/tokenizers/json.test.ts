import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Composition } from "../../../engine/model/tokenizers/composition.js";
import { createTokenizer } from "../../../engine/model/tokenizers/index.js";
import { vocabularies } from "../../support/engine/tokenizers/golden.js";

type Case = {
  readonly name: string;
  readonly vocabulary: keyof typeof vocabularies;
  readonly json: { readonly model: object };
  readonly ids: readonly string[];
  readonly framed: readonly number[];
};

/** Hugging Face tokenizers' tokens for texts with the small vocabularies, as `tokenizer.json` of each kind. */
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
      [2, 3, 4].includes(types[id]!)
        ? [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: types[id] === 3 }]
        : [],
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
      // There, a spelled-out control token always becomes one; here, only if control text is read.
      expect(tokenizer.encode(text, { control: true }).join(" "), JSON.stringify(text)).toBe(each.ids[index]);
    });
    expect([...tokenizer.begin, ...tokenizer.encode("x"), ...tokenizer.end]).toEqual(each.framed);
  });

  test("ends refer to the text as given, composed or not", () => {
    for (const text of golden.texts) {
      const reading = tokenizer.read(text);
      while (reading.advance(5));
      const { ends } = reading;
      expect([...ends].sort((a, b) => a - b)).toEqual(ends);
      expect(ends.at(-1) ?? 0).toBe(text.length);
    }
  });
});

test("a text is composed step by step, as by Unicode's NFC at once", () => {
  const letters = fc.constantFrom("e", "\u0301", "\u0323", "a", " ", "\u212b", "\u1112", "\u1161", "\u11ab", "\ud83d\ude00", "\u00e9");
  fc.assert(
    fc.property(fc.array(letters, { maxLength: 40 }), fc.integer({ min: 1, max: 8 }), (characters, step) => {
      const source = characters.join("");
      const composition = new Composition(source);
      while (composition.advance(step));
      expect(composition.text).toBe(source.normalize("NFC"));
      expect(composition.sourceEnd(composition.text.length)).toBe(source.length);
    }),
  );
  const long = new Composition("e\u0301 ".repeat(10_000));
  let steps = 1;
  while (long.advance(1000)) steps++;
  expect(steps).toBeGreaterThan(25);
});

const [plain] = golden.cases;
test.for([
  ["{", "is not JSON"],
  ["{}", "has no model"],
  [jsonOf(plain!, { model: { type: "Unigram", vocab: [] } }), 'a model that is not supported: {"type":"Unigram"}'],
  [jsonOf(plain!, { pre_tokenizer: { type: "BertPreTokenizer" } }), "BertPreTokenizer"],
  [jsonOf(plain!, { pre_tokenizer: { type: "ByteLevel", add_prefix_space: true } }), "a pre_tokenizer that is not supported"],
  [jsonOf(plain!, { normalizer: { type: "NFKC" } }), 'a normalizer that is not supported: {"type":"NFKC"}'],
] as const)("%# is an error that names what is unknown: %s", ([json, message]) => {
  expect(() => tokenizerOf(json)).toThrow(expect.objectContaining({ code: "bad_model", message: expect.stringContaining(message) }));
});
