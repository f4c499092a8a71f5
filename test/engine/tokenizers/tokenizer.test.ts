import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createTokenizer } from "../../../engine/model/tokenizers/index.js";
import { LONGEST_WORD } from "../../../engine/model/tokenizers/words.js";
import { encodeWithin } from "../../../plan/index.js";
import { golden, type Metadata, vocabularies } from "../../support/engine/tokenizers/golden.js";

/** If a space is added before some words, the text cannot be read back. */
const PLAIN = { "tokenizer.ggml.add_space_prefix": false };
const tokenizerOf = (vocabulary: keyof typeof vocabularies, metadata: Metadata = {}) =>
  createTokenizer({ ...vocabularies[vocabulary], ...metadata }).tokenizer;
/** A text as its tokens can reproduce it: what has no UTF-8 is replaced, and SentencePiece's symbol for a space becomes one. */
const readBack = (text: string, vocabulary: string) =>
  text.replace(/\p{Cs}/gu, "\uFFFD").replaceAll("\u2581", vocabulary === "marked" ? " " : "\u2581");

const anyText = fc.oneof(
  fc.constantFrom(...golden.texts),
  fc.string({ unit: "grapheme", maxLength: 60 }),
  fc.array(fc.constantFrom(...golden.texts), { maxLength: 4 }).map((texts) => texts.join("")),
);

describe.each(golden.cases)("$vocabulary $metadata", ({ vocabulary, metadata, text, control }) => {
  const tokenizer = tokenizerOf(vocabulary, metadata);

  test("ids are llama.cpp's", () => {
    golden.texts.forEach((each, index) => {
      expect(tokenizer.encode(each).join(" "), JSON.stringify(each)).toBe(text[index]);
      expect(tokenizer.encode(each, { control: true }).join(" "), JSON.stringify(each)).toBe(control[index] ?? text[index]);
    });
  });

  test("a text read in steps of any length has the tokens of the whole text, and each token's end is the text that it completes", () => {
    fc.assert(
      fc.property(anyText, fc.integer({ min: 1, max: 40 }), (each, step) => {
        const reading = tokenizer.read(each);
        while (reading.advance(step));
        const { ids, ends } = reading;
        expect(ids).toEqual(tokenizer.encode(each));
        expect(ends).toHaveLength(ids.length);
        if (vocabulary === "marked" && metadata["tokenizer.ggml.add_space_prefix"] !== false) return;
        expect(tokenizer.decode(ids)).toBe(readBack(each, vocabulary));
        for (let index = 0; index < ends.length; index += 1 + (ids.length >> 4)) {
          const covered = tokenizer.decode(ids.slice(0, index + 1));
          expect(covered.replace(/\uFFFD+$/, "")).toBe(
            readBack(each, vocabulary)
              .slice(0, ends[index])
              .replace(/\uFFFD+$/, ""),
          );
        }
        expect(ends.at(-1) ?? 0).toBe(each.length);
      }),
      { numRuns: 60 },
    );
  });
});

describe("whatever the vocabulary", () => {
  test.for(["bytes", "marked"] as const)(
    "%s: a text without words is read in steps of limited length, and nothing is lost",
    (vocabulary) => {
      const tokenizer = tokenizerOf(vocabulary, PLAIN);
      for (const letter of ["a", " ", "中", "😀", "\n", "="]) {
        const text = letter.repeat(50_000);
        const reading = tokenizer.read(text);
        let covered = 0;
        for (let more = true; more; ) {
          more = reading.advance(1);
          expect(reading.ends.at(-1)! - covered).toBeLessThanOrEqual(LONGEST_WORD);
          covered = reading.ends.at(-1)!;
        }
        expect(tokenizer.decode(reading.ids)).toBe(text);
      }
    },
  );

  test.for(["bytes", "marked"] as const)("%s: spelled-out control tokens stay text, and are read back as text", (vocabulary) => {
    const { tokenizer, control } = createTokenizer({ ...vocabularies[vocabulary], ...PLAIN });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(anyText, fc.constantFrom(...control.values()))).map((parts) => parts.join("")),
        (text) => {
          const ids = tokenizer.encode(text);
          expect(ids.filter((id) => control.has(id))).toEqual([]);
          expect(tokenizer.decode(ids)).toBe(readBack(text, vocabulary));
        },
      ),
      { numRuns: 100 },
    );
  });

  test.for(["bytes", "marked"] as const)("%s: no merges turn text into a control token", (vocabulary) => {
    const tokens = vocabularies[vocabulary]["tokenizer.ggml.tokens"] as readonly string[];
    const types = [...(vocabularies[vocabulary]["tokenizer.ggml.token_type"] as readonly number[])];
    const id = tokens.findIndex((token) => /^[a-z]{3}$/.test(token)); // made of two merges
    const text = tokens[id]!;
    expect(tokenizerOf(vocabulary, PLAIN).encode(text)).toEqual([id]);
    types[id] = 3;
    const tokenizer = tokenizerOf(vocabulary, { ...PLAIN, "tokenizer.ggml.token_type": types });
    expect(tokenizer.encode(text)).not.toContain(id);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.encode(text, { control: true })).toEqual([id]);
  });

  test("tokens are counted up to a limit, and no further", () => {
    const tokenizer = tokenizerOf("bytes");
    const text = "a b ".repeat(20_000);
    const ids = tokenizer.encode(text);
    expect(encodeWithin(tokenizer, text, ids.length)).toEqual(ids);
    expect(encodeWithin(tokenizer, text, ids.length - 1)).toBeUndefined();
    let read = 0;
    const counting = {
      read: (each: string) => ({
        ...tokenizer.read(each),
        ids: [],
        ends: [],
        advance: (characters: number) => ((read += characters), false),
      }),
    };
    encodeWithin(counting, text, 10);
    expect(read).toBeLessThan(10_000);
  });
});

test("text that continues other text gets no space before it", () => {
  const tokenizer = tokenizerOf("marked");
  expect(tokenizer.decode(tokenizer.encode("model", { continues: true }), { continues: true })).toBe("model");
  expect(tokenizer.decode(tokenizer.encode("model"), { continues: true })).toBe(" model");
});

test("the tokens around a separate text are those that the file sets, or else those usual for its kind", () => {
  const framed = (vocabulary: keyof typeof vocabularies, metadata: Metadata) => {
    const { begin, end } = tokenizerOf(vocabulary, metadata);
    return [begin.length, end.length];
  };
  expect(framed("marked", {})).toEqual([1, 0]);
  expect(framed("marked", { "tokenizer.ggml.add_bos_token": false, "tokenizer.ggml.add_eos_token": true })).toEqual([0, 1]);
  expect(framed("bytes", { "tokenizer.ggml.pre": "qwen2" })).toEqual([0, 0]);
  expect(framed("bytes", { "tokenizer.ggml.pre": "llama-bpe" })).toEqual([1, 0]);
});

test("a character added after Unicode 15.1 has no class, whatever this Node.js knows", () => {
  const tokenizer = tokenizerOf("bytes", { "tokenizer.ggml.pre": "qwen2" });
  const reading = tokenizer.read("a\u{a7cb}a"); // U+A7CB is a letter since Unicode 16
  reading.advance(1);
  expect(reading.ends.at(-1)).toBe(1);
});

test.for([
  [{ "tokenizer.ggml.pre": "deepseek-llm" }, "pre-tokenizer deepseek-llm is not supported"],
  [{ "tokenizer.ggml.pre": undefined }, "does not say how text is split into words"],
  [{ "tokenizer.ggml.model": "bert" }, "has the type bert"],
  [{ "tokenizer.ggml.merges": undefined }, "no tokenizer.ggml.merges"],
  [{ "tokenizer.ggml.token_type": [1] }, "no tokenizer.ggml.token_type, or it is too short"],
] as const)("%o is an error that says so", ([metadata, message]) => {
  expect(() => tokenizerOf("bytes", metadata)).toThrow(
    expect.objectContaining({ code: "bad_model", message: expect.stringContaining(message) }),
  );
});
