/**
 * Compares token ids with llama.cpp's: for whole vocabularies, and in golden files of small vocabularies that this creates.
 *
 *     npx tsx compare/tokenizers.ts FILE.gguf...
 *     npx tsx compare/tokenizers.ts golden
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { readMetadata } from "../../engine/model/files/open.js";
import { createTokenizer } from "../../engine/model/tokenizers/index.js";
import { texts } from "../../test/support/engine/tokenizers/texts.js";

type Value = string | number | boolean | readonly string[] | Float32Array | Int32Array;
type Metadata = Readonly<Record<string, Value>>;

/** How many times as many texts as in the tests a whole vocabulary is checked with. */
const TIMES = 20;

const folder = join(import.meta.dirname, "../../test/golden/tokenizers");
const llama = await getLlama({ build: "never", gpu: false, skipDownload: true, logLevel: LlamaLogLevel.error, progressLogs: false });

const [first, ...others] = process.argv.slice(2);
if (first === "golden") await writeGolden();
else for (const path of first === undefined ? [] : [first, ...others]) await compare(path);
await llama.dispose();

async function compare(path: string): Promise<void> {
  const { tokenizer } = createTokenizer(readMetadata(path));
  const model = await llama.loadModel({ modelPath: path, vocabOnly: true });
  const all = texts(TIMES);
  for (const control of [false, true]) {
    const differing = all.filter((text) => String(tokenizer.encode(text, { control })) !== String(model.tokenize(text, control)));
    console.log(
      `${basename(path)} ${control ? "control text" : "text"}: ${differing.length} of ${all.length} differ ${JSON.stringify(differing.slice(0, 3))}`,
    );
  }
  await model.dispose();
}

async function writeGolden(): Promise<void> {
  const bytes = bytesVocabulary();
  const marked = markedVocabulary();
  const all = texts();
  const cases: object[] = [];
  for (const pre of ["gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "tekken", "gpt-4o"])
    cases.push(await caseOf("bytes", bytes, { "tokenizer.ggml.pre": pre }, all));
  for (const prefix of [true, false]) cases.push(await caseOf("marked", marked, { "tokenizer.ggml.add_space_prefix": prefix }, all));
  cases.push(await caseOf("marked", marked, { "general.name": "Phi-3" }, all));

  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../node_modules/node-llama-cpp/package.json"), "utf8")) as {
    version: string;
  };
  const made = `npx tsx compare/tokenizers.ts golden, by llama.cpp ${llama.llamaCppRelease.release} in node-llama-cpp ${version}`;
  writeFileSync(join(folder, "llama-cpp.json"), `${JSON.stringify({ made, texts: all, cases }, undefined, 0)}\n`);
  const plain = (metadata: Metadata) =>
    Object.fromEntries(
      Object.entries(metadata).map(([key, value]) => [key, ArrayBuffer.isView(value) ? [...(value as Int32Array)] : value]),
    );
  for (const [name, metadata] of Object.entries({ bytes, marked }))
    writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(plain(metadata))}\n`);
}

async function caseOf(vocabulary: string, common: Metadata, own: Metadata, all: readonly string[]): Promise<object> {
  const directory = mkdtempSync(join(tmpdir(), "kvsplice-vocabulary-"));
  const path = join(directory, "v.gguf");
  writeFileSync(path, ggufOf({ "general.architecture": "llama", ...common, ...own }));
  const model = await llama.loadModel({ modelPath: path, vocabOnly: true });
  const idsOf = (control: boolean) => all.map((text) => model.tokenize(text, control).join(" "));
  const [text, control] = [idsOf(false), idsOf(true)];
  const made = {
    vocabulary,
    metadata: own,
    text,
    control: Object.fromEntries([...control.entries()].filter(([index, ids]) => ids !== text[index])),
  };
  await model.dispose();
  rmSync(directory, { recursive: true });
  return made;
}

/** A byte-pair vocabulary built from this project's documentation. */
function bytesVocabulary(): Metadata {
  const alphabet = Array.from({ length: 256 }, (_, byte) => spell(Uint8Array.of(byte)));
  const words = documentation().match(/ ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+/gu) ?? [];
  const merges = learn(
    words.map((word) => [...spell(new TextEncoder().encode(word))]),
    700,
  );
  const control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
  const spelled = ["<think>", "</think>"];
  const tokens = [...alphabet, ...merges.map(([a, b]) => a + b), ...control, ...spelled];
  const types = tokens.map((token) => (control.includes(token) ? 3 : spelled.includes(token) ? 4 : 1));
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": Int32Array.from(types),
    "tokenizer.ggml.merges": merges.map((pair) => pair.join(" ")),
    "tokenizer.ggml.bos_token_id": tokens.indexOf("<|im_start|>"),
    "tokenizer.ggml.eos_token_id": tokens.indexOf("<|im_end|>"),
  };
}

/** A SentencePiece vocabulary built from the same. */
function markedVocabulary(): Metadata {
  const control = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>", "<|endoftext|>"]; // as in Phi-3
  const spelled = ["<think>", "</think>", "\n\n", "\n\n\n", "  ", "   "];
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  const words =
    documentation()
      .replaceAll(" ", "\u2581")
      .match(/\u2581*[^\u2581\n]+|\n/gu) ?? [];
  const merges = learn(
    words.map((word) => [...word]),
    700,
  );
  const characters = [...new Set([..."\u2581", ...words.join("")])].filter((character) => character !== "\n").sort();
  const learnt = [...new Set(merges.map(([a, b]) => a + b))];
  const tokens = [...control, ...bytes, ...spelled, ...learnt, ...characters];
  const types = tokens.map((_, id) =>
    id === 0 ? 2 : id < control.length ? 3 : id < control.length + 256 ? 6 : id < control.length + 256 + spelled.length ? 4 : 1,
  );
  return {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": Int32Array.from(types),
    "tokenizer.ggml.scores": Float32Array.from(tokens, (_, id) => -Math.max(0, id - control.length - 256 - spelled.length)),
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
  };
}

/** Byte-pair merges: repeatedly the most frequent pair; among equal ones, the first by its text. */
function learn(words: readonly (readonly string[])[], count: number): (readonly [string, string])[] {
  const counts = new Map<string, { symbols: string[]; count: number }>();
  for (const word of words) {
    const key = word.join(" ");
    const known = counts.get(key);
    if (known) known.count++;
    else counts.set(key, { symbols: [...word], count: 1 });
  }
  const merges: (readonly [string, string])[] = [];
  while (merges.length < count) {
    const pairs = new Map<string, number>();
    for (const { symbols, count: times } of counts.values()) {
      for (let i = 0; i + 1 < symbols.length; i++)
        pairs.set(`${symbols[i]} ${symbols[i + 1]}`, (pairs.get(`${symbols[i]} ${symbols[i + 1]}`) ?? 0) + times);
    }
    const [best] = [...pairs].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
    const [left, right] = best![0].split(" ") as [string, string];
    merges.push([left, right]);
    for (const word of counts.values()) {
      for (let i = 0; i + 1 < word.symbols.length; i++) {
        if (word.symbols[i] === left && word.symbols[i + 1] === right) word.symbols.splice(i, 2, left + right);
      }
    }
  }
  return merges;
}

/** Without control tokens of llama.cpp: unlike the product, it merges letters to these too. */
function documentation(): string {
  const docs = join(import.meta.dirname, "../../docs");
  return readdirSync(docs)
    .filter((name) => name.endsWith(".md"))
    .sort()
    .map((name) => readFileSync(join(docs, name), "utf8"))
    .join("\n")
    .replace(/<\|\w+\|>/g, "");
}

/** GPT-2's alphabet of bytes, repeated here so that the product's is checked against it. */
function spell(bytes: Uint8Array): string {
  const printing = [...Array(94).keys()]
    .map((i) => i + 33)
    .concat(
      [...Array(12).keys()].map((i) => i + 161),
      [...Array(82).keys()].map((i) => i + 174),
    );
  const others = [...Array(256).keys()].filter((byte) => !printing.includes(byte));
  return Array.from(bytes, (byte) => String.fromCharCode(printing.includes(byte) ? byte : 256 + others.indexOf(byte))).join("");
}

/** A GGUF file (version 3) with only metadata. */
function ggufOf(metadata: Metadata): Buffer {
  const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
  const u64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
  const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
  const valueOf = (value: Value): Buffer[] => {
    if (typeof value === "string") return [u32(8), text(value)];
    if (typeof value === "boolean") return [u32(7), Buffer.from([Number(value)])];
    if (typeof value === "number") return [u32(4), u32(value)];
    if (value instanceof Float32Array) return [u32(9), u32(6), u64(value.length), Buffer.from(value.buffer)];
    if (value instanceof Int32Array) return [u32(9), u32(5), u64(value.length), Buffer.from(value.buffer)];
    return [u32(9), u32(8), u64(value.length), ...value.map(text)];
  };
  const entries = Object.entries(metadata).flatMap(([key, value]) => [text(key), ...valueOf(value)]);
  return Buffer.concat([Buffer.from("GGUF"), u32(3), u64(0), u64(Object.keys(metadata).length), ...entries]);
}
