import { rmSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, onTestFinished, test, vi } from "vitest";

import { type Embedder, type EmbedderOptions, loadEmbedder } from "../../rag/index.js";
import { startHub } from "../support/engine/hub/hub-server.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";
import { placeOf, TINY_DIMENSIONS, tinyEncoderFiles, writeFiles } from "../support/rag/tiny-encoder.js";

async function load(options: EmbedderOptions): Promise<Embedder> {
  const embedder = await loadEmbedder(options);
  onTestFinished(() => embedder.close());
  return embedder;
}

async function tiny(
  more: Readonly<Record<string, object>> = {},
  name = "tiny",
): Promise<{ readonly folder: string; readonly embedder: Embedder }> {
  const folder = join(await temporaryFolder(), name);
  writeFiles(folder, tinyEncoderFiles(more));
  return { folder, embedder: await load({ name: folder, threads: 1 }) };
}

/** Normalised to length 1, with these weights at the words' places before that. */
function vectorOf(counts: Readonly<Record<string, number>>): number[] {
  const vector = Array.from({ length: TINY_DIMENSIONS }, () => 0);
  for (const [word, count] of Object.entries(counts)) vector[placeOf(word)] = count;
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
}

async function rounded(embedder: Embedder, text: string, as?: "question" | "document"): Promise<number[]> {
  const [vector] = await embedder.embed([text], as && { as });
  return [...vector!].map((value) => Number(value.toFixed(5)));
}
const close = (vector: readonly number[]) => vector.map((value) => Number(value.toFixed(5)));

describe("a folder of a sentence encoder", () => {
  test("is read with its tokenizer, the special tokens around texts, and the mean of the token vectors", async () => {
    const { embedder } = await tiny();
    expect(embedder).toMatchObject({ name: "tiny", dimensions: TINY_DIMENSIONS, floor: undefined });
    expect(await rounded(embedder, "red red blue")).toEqual(close(vectorOf({ "[CLS]": 1, red: 2, blue: 1, "[SEP]": 1 })));
    expect(await embedder.countTokens(["red red blue"])).toBe(5);
  });

  test("reads a text longer than its window in several windows", async () => {
    const { embedder } = await tiny(); // 8 positions, 6 without the special tokens
    expect(await rounded(embedder, "red ".repeat(9))).toEqual(close(vectorOf({ "[CLS]": 2, red: 9, "[SEP]": 2 })));
    const { embedder: narrow } = await tiny({ "sentence_bert_config.json": { max_seq_length: 5 } });
    expect(await rounded(narrow, "red ".repeat(9))).toEqual(close(vectorOf({ "[CLS]": 3, red: 9, "[SEP]": 3 })));
  });

  test("uses the first token if its configuration says so", async () => {
    const { embedder } = await tiny({ "1_Pooling/config.json": { pooling_mode_cls_token: true, pooling_mode_mean_tokens: false } });
    expect(await rounded(embedder, "red red blue")).toEqual(close(vectorOf({ "[CLS]": 1 })));
  });

  test("adds its prefixes to questions and documents", async () => {
    const { embedder } = await tiny({ "config_sentence_transformers.json": { prompts: { query: "query: ", document: "passage: " } } });
    expect(await rounded(embedder, "red", "question")).toEqual(close(vectorOf({ "[CLS]": 1, query: 1, ":": 1, red: 1, "[SEP]": 1 })));
    expect(await rounded(embedder, "red", "document")).toEqual(close(vectorOf({ "[CLS]": 1, passage: 1, ":": 1, red: 1, "[SEP]": 1 })));
    expect(await rounded(embedder, "red")).toEqual(close(vectorOf({ "[CLS]": 1, red: 1, "[SEP]": 1 })));
    const { embedder: e5 } = await tiny({}, "multilingual-e5-tiny");
    expect(await rounded(e5, "red", "question")).toEqual(close(vectorOf({ "[CLS]": 1, query: 1, ":": 1, red: 1, "[SEP]": 1 })));
  });

  test("has an id that depends only on its content", async () => {
    const [here, there, other] = [
      await tiny(),
      await tiny(),
      await tiny({ "tokenizer.json": { ...JSON.parse(tinyEncoderFiles()["tokenizer.json"]!.toString()), version: "1.1" } }),
    ];
    expect(here.embedder.id).toMatch(/^tiny\/[0-9a-f]{12}$/);
    expect(there.embedder.id).toBe(here.embedder.id);
    expect(other.embedder.id).not.toBe(here.embedder.id);
  });

  test("reports what is missing or unsupported", async () => {
    const { folder } = await tiny();
    const without = async (change: () => void, message: RegExp) => {
      change();
      await expect(loadEmbedder({ name: folder })).rejects.toMatchObject({ code: "bad_model", message: expect.stringMatching(message) });
    };
    await without(
      () => writeFiles(folder, tinyEncoderFiles({ "1_Pooling/config.json": { pooling_mode_max_tokens: true } })),
      /no other way is supported/,
    );
    await without(
      () => writeFiles(folder, tinyEncoderFiles({ "1_Pooling/config.json": {}, "config.json": { pad_token_id: "x" } })),
      /config\.json cannot be read/,
    );
    rmSync(join(folder, "1_Pooling"), { recursive: true });
    await without(
      () => writeFiles(folder, tinyEncoderFiles({}, "sentence_embedding")),
      /it outputs sentence_embedding, but none of last_hidden_state/,
    );
    await without(() => rmSync(join(folder, "tokenizer.json")), /no tokenizer\.json/);
    await without(
      () => rmSync(join(folder, "onnx"), { recursive: true }),
      /has no encoder: it contains none of onnx\/model_quantized\.onnx/,
    );
  });
});

test("an encoder from the hub is downloaded with its files, once", async () => {
  const hub = await startHub({
    "acme/tiny-encoder": {
      ...tinyEncoderFiles({ "1_Pooling/config.json": { pooling_mode_cls_token: true } }),
      "model.safetensors": Buffer.alloc(2_000),
      "README.md": Buffer.from("#"),
    },
    "acme/words": { "README.md": Buffer.from("#") },
  });
  onTestFinished(() => hub.close());
  for (const [name, value] of Object.entries({ HF_ENDPOINT: hub.url, HF_HUB_CACHE: await temporaryFolder() })) vi.stubEnv(name, value);
  onTestFinished(() => void vi.unstubAllEnvs());

  const embedder = await load({ name: "hf:acme/tiny-encoder", threads: 1 });
  expect(embedder.name).toBe("acme/tiny-encoder");
  expect(await rounded(embedder, "red")).toEqual(close(vectorOf({ "[CLS]": 1 })));
  expect(hub.requests.filter(({ url }) => /safetensors|README/.test(url) && !url.includes("/tree/"))).toEqual([]);

  const asked = hub.requests.length;
  expect((await load({ name: "hf:acme/tiny-encoder:onnx/model.onnx", threads: 1 })).id).toBe(embedder.id);
  expect(hub.requests).toHaveLength(asked);
  await expect(loadEmbedder({ name: "hf:acme/words" })).rejects.toMatchObject({
    code: "bad_argument",
    message: expect.stringContaining("no encoder in ONNX"),
  });
  await expect(loadEmbedder({ name: "hf:acme/tiny-encoder:onnx/other.onnx" })).rejects.toMatchObject({
    code: "bad_argument",
    message: expect.stringContaining("It has onnx/model.onnx"),
  });
});
