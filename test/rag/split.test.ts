import fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { Tokenizer } from "../../plan/index.js";
import { type Paragraph, renderDocument, splitDocument } from "../../rag/index.js";
import { fakeModel } from "../support/rag/fakes.js";

const { tokenizer, card } = fakeModel();
const split = (paragraphs: readonly Paragraph[], maxTokens = 60, title = "T") =>
  splitDocument({ path: "/a.md", title, paragraphs }, { tokenizer, card, maxTokens });
const bare = (texts: readonly string[]) => texts.join("").replace(/\s+/g, "");

const word = fc.oneof(
  fc.stringMatching(/^[a-z]{1,12}$/),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }),
  fc.constantFrom("日本語の文章です。", "👨‍👩‍👧‍👦", "{text}", "$&"),
);
const sentence = fc.array(word, { minLength: 1, maxLength: 30 }).map((words) => `${words.join(" ")}.`);
const paragraph: fc.Arbitrary<Paragraph> = fc
  .tuple(fc.array(sentence, { minLength: 1, maxLength: 8 }), fc.boolean())
  .map(([sentences, heading]) => (heading ? { text: sentences[0]!, heading: true } : { text: sentences.join(" ") }));
const title = fc.oneof(fc.constant("T"), fc.string({ maxLength: 300 }));

describe("splitting", () => {
  test("no text is lost, and every rendered chunk is within the limit", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(paragraph, { maxLength: 8 }),
        title,
        fc.integer({ min: 40, max: 120 }),
        async (paragraphs, title, maxTokens) => {
          const chunks = await split(paragraphs, maxTokens, title);
          expect(bare(chunks.map(({ text }) => text))).toBe(bare(paragraphs.map(({ text }) => text)));
          for (const chunk of chunks) {
            expect(chunk.tokens).toEqual(tokenizer.encode(renderDocument(card, chunk.title, chunk.text)));
            expect(chunk.tokens.length).toBeLessThanOrEqual(maxTokens);
            expect(chunk.text).not.toBe("");
            expect(chunk.title).toBe(chunks[0]!.title);
          }
        },
      ),
      { numRuns: 150 },
    ));

  test("paragraphs that fit together share a chunk", async () => {
    expect((await split([{ text: "One." }, { text: "Two." }])).map(({ text }) => text)).toEqual(["One.\nTwo."]);
  });

  test("a chunk ends between paragraphs if they are short enough", async () => {
    const texts = Array.from({ length: 12 }, (_, index) => `${"word ".repeat(15)}number ${index}.`);
    const kept = (await split(texts.map((text) => ({ text })))).flatMap(({ text }) => text.split("\n"));
    expect(kept).toEqual(texts);
  });

  test("a long paragraph is cut between sentences", async () => {
    const sentences = Array.from({ length: 20 }, (_, index) => `This is the sentence with number ${index}.`);
    for (const { text } of await split([{ text: sentences.join(" ") }])) {
      expect(text.split(/(?<=\.) /).every((part) => sentences.includes(part))).toBe(true);
    }
  });

  test("a long sentence is cut between words", async () => {
    const words = Array.from({ length: 200 }, (_, index) => `word${index}`);
    expect((await split([{ text: words.join(" ") }])).flatMap(({ text }) => text.split(" "))).toEqual(words);
  });

  test("a word longer than a chunk is cut between runes, and the chunks are full", async () => {
    const chunks = await split([{ text: "😀".repeat(500) }]);
    expect(bare(chunks.map(({ text }) => text))).toBe("😀".repeat(500));
    for (const { tokens } of chunks.slice(0, -1)) expect(tokens).toHaveLength(60);
  });

  test("a heading stays with what follows it", async () => {
    const body = { text: "word ".repeat(40) };
    const chunks = await split([body, { text: "Heading", heading: true }, body]);
    expect(chunks).toHaveLength(2);
    expect(chunks[1]!.text).toMatch(/^Heading\n/);
  });

  test("a line that begins a chunk keeps its indentation, even if its block was cut", async () => {
    const lines = Array.from({ length: 30 }, (_, index) => `${" ".repeat(index % 5)}step ${index} and on`);
    const chunks = await split([{ text: lines.join("\n") }]);
    expect(chunks.length).toBeGreaterThan(3);
    expect(chunks.flatMap(({ text }) => text.split("\n"))).toEqual(lines);
  });

  test("the rest of a cut line has no space before it", async () => {
    for (const { text } of await split([{ text: "word ".repeat(200) }])) expect(text).toMatch(/^word/);
  });

  test("a table's column names are above its rows in every chunk, and nowhere else", async () => {
    const rows = Array.from({ length: 40 }, (_, index) => `row ${index} | value`);
    const chunks = await split([{ text: "Before." }, ...rows.map((text) => ({ text, columns: "name | kind" })), { text: "After." }]);
    expect(chunks.length).toBeGreaterThan(3);
    for (const { text, tokens } of chunks) {
      const lines = text.split("\n");
      const first = lines.findIndex((line) => line.startsWith("row"));
      expect(lines[first - 1]).toBe("name | kind");
      expect(lines.filter((line) => line === "name | kind")).toHaveLength(1);
      expect(tokens.length).toBeLessThanOrEqual(60);
    }
    expect(chunks.flatMap(({ text }) => text.split("\n").filter((line) => line.startsWith("row")))).toEqual(rows);
  });

  test("column names that would fill a chunk appear once", async () => {
    const columns = "name ".repeat(50).trim();
    const texts = (await split(Array.from({ length: 40 }, (_, index) => ({ text: `row ${index}`, columns })))).map(({ text }) => text);
    expect(bare(texts)).toBe(bare([columns, ...Array.from({ length: 40 }, (_, index) => `row ${index}`)]));
  });

  test("a chunk has the page on which it begins", async () => {
    const paragraphs = Array.from({ length: 6 }, (_, index) => ({ text: "word ".repeat(25), page: index + 3 }));
    expect((await split(paragraphs)).map(({ page }) => page)).toEqual([3, 5, 7]); // two paragraphs per chunk
    expect((await split([{ text: "x" }]))[0]).not.toHaveProperty("page");
  });

  test("chunks of a document share its title; a title that is too long is cut and ends with an ellipsis", async () => {
    const title = "a very long title ".repeat(40);
    const chunks = await split([{ text: "word ".repeat(200) }], 60, title);
    for (const chunk of chunks) {
      expect(chunk.title).toMatch(/^a very long.*…$/);
      expect(tokenizer.encode(chunk.title).length).toBeLessThanOrEqual(15);
    }
  });

  test("a document without text has no chunks; a limit without room is an error", async () => {
    expect(await split([])).toEqual([]);
    await expect(split([{ text: "x" }], 10)).rejects.toMatchObject({ code: "bad_argument" });
  });
});

describe("texts of any length and kind", () => {
  const kinds = {
    prose: "The quick fox jumps over it. ".repeat(4_000),
    "words without a sentence": "word ".repeat(20_000),
    "one word": "a".repeat(60_000),
    "signs without letters": "=".repeat(40_000),
    "no spaces": "漢字".repeat(20_000),
    "empty lines": "a\n".repeat(30_000),
    spaces: " ".repeat(60_000),
    "line feeds": "\n".repeat(60_000),
    "spaces between words": `a${" ".repeat(30_000)}b${"\t\n".repeat(15_000)}c`,
  };

  test.for(Object.entries(kinds))("%s: each character is tokenised only a few times, however long the text is", async ([, text]) => {
    let read = 0;
    const counting: Tokenizer = {
      ...tokenizer,
      encode: (each, options) => ((read += each.length), tokenizer.encode(each, options)),
      read: (each, options) => ((read += each.length), tokenizer.read(each, options)),
    };
    const chunks = await splitDocument({ path: "/a.md", title: "T", paragraphs: [{ text }] }, { tokenizer: counting, card });
    expect(bare(chunks.map((chunk) => chunk.text))).toBe(bare([text]));
    const rendered = [{ text: "" }, ...chunks].reduce((sum, chunk) => sum + renderDocument(card, "T", chunk.text).length, 0);
    expect(read).toBeLessThan(text.length + 4 * rendered);
  });

  test("a paragraph of any length is cut between its sentences, and its parts are not headings", async () => {
    const sentences = Array.from({ length: 13_000 }, (_, index) => `This is number ${index}.`);
    const text = sentences.join(" ");
    expect(text.length).toBeGreaterThan(2 ** 18);
    const chunks = await splitDocument({ path: "/a.md", title: "T", paragraphs: [{ text, heading: true }] }, { tokenizer, card });
    expect(chunks.flatMap((chunk) => chunk.text.split(/(?<=\.) /))).toEqual(sentences);
  });

  test("white space that would fill a chunk is in none; what follows it keeps its place in its line", async () => {
    const texts = async (text: string, columns?: string) => {
      const chunks = await split([{ text, ...(columns && { columns }) }]);
      return chunks.map((chunk) => chunk.text);
    };
    expect(await texts(`one${" ".repeat(500)}two`)).toEqual(["one", "two"]);
    expect(await texts(`${" ".repeat(500)}\n  one\n${" \n".repeat(500)}  two`)).toEqual(["  one", "  two"]);
    expect(await texts(`${" ".repeat(500)}one`, "a | b")).toEqual(["a | b", "a | b\none"]);
  });

  test("splitting a long text does not block the event loop", async () => {
    let turns = 0;
    let waiting = setImmediate(function turn() {
      turns++;
      waiting = setImmediate(turn);
    });
    await split([{ text: kinds.prose.repeat(3) }]);
    clearImmediate(waiting);
    expect(turns).toBeGreaterThan(3);
  });

  test("splitting can be cancelled", async () => {
    const splitting = splitDocument(
      { path: "/a.md", title: "T", paragraphs: [{ text: kinds.prose.repeat(3) }] },
      { tokenizer, card, signal: AbortSignal.timeout(1) },
    );
    await expect(splitting).rejects.toMatchObject({ code: "cancelled" });
  });

  test("a document above the limit is refused without being read to the end", async () => {
    let covered = 0;
    const slow: Tokenizer = {
      ...tokenizer,
      read(text) {
        const ids: number[] = [];
        const advance = (characters: number) => (
          (covered += characters), ids.push(...tokenizer.encode(text.slice(covered - characters, covered))), covered < text.length
        );
        return { ids, ends: ids.map((_, index) => index + 1), advance };
      },
    };
    const splitting = splitDocument(
      { path: "/a.md", title: "T", paragraphs: [{ text: kinds.prose }] },
      { tokenizer: slow, card, mostTokens: 1_000 },
    );
    await expect(splitting).rejects.toMatchObject({ code: "too_long" });
    expect(covered).toBeLessThan(20_000);
  });
});
