import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { type Embedder, loadEmbedder } from "../../rag/index.js";

const cosine = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

describe("MiniLM", () => {
  let embedder: Embedder;
  beforeAll(async () => {
    embedder = await loadEmbedder({ threads: 1 });
  });
  afterAll(() => embedder.close());

  const texts = [
    "The lighthouse keeper wrote a diary.",
    "A man who tended the lamp by the sea kept a journal.",
    "Copper turns green in the rain.",
    "",
    "¿Qué? 日本 👍",
  ];

  test("vectors have the stated dimensions and length 1", async () => {
    for (const vector of await embedder.embed([...texts, "long text ".repeat(500)])) {
      expect(vector).toHaveLength(embedder.dimensions);
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    }
  });

  test("sentences with similar meanings are closer than others", async () => {
    const [diary, journal, copper] = await embedder.embed(texts);
    expect(cosine(diary!, journal!)).toBeGreaterThan(cosine(diary!, copper!) + 0.2);
    expect(cosine(diary!, journal!)).toBeGreaterThan(cosine(journal!, copper!) + 0.2);
  });

  test("a question is closest to the text that answers it", async () => {
    const [question, ...answers] = await embedder.embed(["Why do roofs turn green?", ...texts.slice(0, 3)]);
    const scores = answers.map((answer) => cosine(question!, answer));
    expect(scores.indexOf(Math.max(...scores))).toBe(2);
  });

  test("a text's vector does not depend on the texts embedded with it, nor on the threads", async () => {
    const many = [...texts, "padding ".repeat(200), "long text ".repeat(500), ...Array.from({ length: 20 }, (_, i) => `keeper ${i}`)];
    const several = await loadEmbedder({ threads: 3 });
    onTestFinished(() => several.close());
    const together = await several.embed(many);
    for (const [index, text] of many.entries()) expect(await embedder.embed([text])).toEqual([together[index]]);
  });

  test("a question passes the documents that wait", async () => {
    const ended: string[] = [];
    const documents = Array.from({ length: 8 }, (_, i) =>
      embedder.embed([`document ${i}`], { as: "document" }).then(() => ended.push("document")),
    );
    const question = embedder.embed(["question"], { as: "question" }).then(() => ended.push("question"));
    await Promise.all([...documents, question]);
    expect(ended.indexOf("question")).toBeLessThan(3);
  });

  test("the end of a text longer than a window counts too", async () => {
    const start = "Copper turns green in the rain. ".repeat(45);
    const [copper, both, diary] = await embedder.embed([
      start,
      start + "The lighthouse keeper wrote a diary. ".repeat(45),
      "The lighthouse keeper wrote a diary.",
    ]);
    expect(cosine(both!, diary!)).toBeGreaterThan(cosine(copper!, diary!) + 0.2);
  });

  test("reading a text in parts gives the same as reading it whole", async () => {
    const words = Array.from({ length: 9_000 }, (_, index) => (index % 7 === 0 ? `word${index}` : index % 11 === 0 ? "日本語" : "and"));
    const windows = Array.from({ length: 300 }, (_, index) => words.slice(30 * index, 30 * index + 30).join(" "));
    const pieces = (await embedder.countTokens(windows)) - 2 * windows.length; // [CLS] and [SEP] in each
    expect(await embedder.countTokens([words.join(" ")])).toBe(pieces + 2 * Math.ceil(pieces / 254));
  });

  test("a text above the limit is refused", async () => {
    await expect(embedder.embed(["short", "word ".repeat(30)], { mostTokens: 20 })).rejects.toMatchObject({ code: "too_long" });
    expect(await embedder.embed(["word ".repeat(20)], { mostTokens: 20 })).toHaveLength(1);
  });

  test("no texts give no vectors, and a cancelled run throws", async () => {
    expect(await embedder.embed([])).toEqual([]);
    await expect(embedder.embed(texts, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });
  });
});

test("missing files are reported", async () => {
  await expect(loadEmbedder({ name: "/nowhere" })).rejects.toMatchObject({
    code: "bad_model",
    message: expect.stringContaining("/nowhere"),
  });
});
