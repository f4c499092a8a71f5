import { createHash } from "node:crypto";
import type { BlockKey, BlockSource, BlockStore, Generation, Model, Plan, Tokenizer } from "../../../engine/index.js";
import { allocateBlock, type Block } from "../../../engine/kv/block.js";
import type { Embedder } from "../../../rag/index.js";
import { withReading } from "../fake-reading.js";

const CONTROL = /(<\|\w+\|>)/;

/** Ids encode their text, so that they are the same in every process. */
const RUNE = 2 ** 40;
const CONTROL_ID = 2 ** 41;

/** Tokens are words of up to 4 letters with the space before them, and single runes; `<|name|>` are control tokens. */
export function fakeTokenizer(): Tokenizer {
  const idOf = (token: string) =>
    /^ ?[a-z]+$/i.test(token) ? Array.from(token).reduce((id, letter) => id * 128 + letter.charCodeAt(0), 0) : RUNE + token.codePointAt(0)!;
  const textOf = (id: number): string =>
    id >= CONTROL_ID
      ? ""
      : id >= RUNE
        ? String.fromCodePoint(id - RUNE)
        : id === 0
          ? ""
          : textOf(Math.floor(id / 128)) + String.fromCharCode(id % 128);
  const encodeText = (text: string) => (text.match(/ ?[a-zA-Z]{1,4}|[^]/gu) ?? []).map(idOf);
  return withReading({
    encode: (text, { control = false } = {}) =>
      control
        ? text.split(CONTROL).flatMap((part) => (CONTROL.test(part) ? [CONTROL_ID + part.length] : encodeText(part)))
        : encodeText(text),
    decode: (ids) => ids.map(textOf).join(""),
  });
}

export type FakeModel = Model & {
  /** Decoded tokens of every block that was encoded, in order. */
  readonly encoded: string[];
  readonly plans: Plan[];
};

/** Encodes nothing, answers "a fake answer", and records the requests. */
export function fakeModel(overrides: Partial<Model> & { onEncode?: () => Promise<void> } = {}): FakeModel {
  const { onEncode, ...rest } = overrides;
  const tokenizer = fakeTokenizer();
  const encoded: string[] = [];
  const plans: Plan[] = [];
  const model: FakeModel = {
    id: "f".repeat(64),
    name: "fake",
    contextLength: 8192,
    precision: "float32",
    encoding: "exact",
    adapters: [],
    form: { layers: [{ kind: "kv", heads: 1, headSize: 1, rotary: undefined }] },
    tokenizer,
    encoded,
    plans,
    chat: { frame: () => ({ open: "", close: "" }), content: (_, text) => text, generationPrompt: "", stop: [], thought: undefined },
    endTokens: new Set(),
    sampling: {},
    card: {
      prompt: {
        system: "<|start|>system\nAnswer.<|end|>\n",
        document: "Title: {title}\n{text}\n",
        question: "\nQuestion: {question}<|end|>\n",
      },
      linkTokens: { tokens: ["<|link_0|>", "<|link_1|>"], default: 0 },
      chunkTokens: 60,
      maxDocumentTokens: 60,
      maxAnswerTokens: 16,
    },
    keyOf: ({ tokens }) => createHash("sha256").update(tokenizer.decode(tokens)).digest("hex"),
    async encode({ tokens }: BlockSource) {
      await onEncode?.();
      encoded.push(tokenizer.decode(tokens));
      return allocateBlock([{ heads: 1, headSize: 1 }], tokens.length);
    },
    generate(plan, { onLogits } = {}): Generation {
      plans.push(plan);
      onLogits?.(Float32Array.of(0, 1));
      const stats = {
        fetch_ms: 1,
        splice_ms: 1,
        first_token_ms: 1,
        per_token_ms: 1,
        total_ms: 1,
        cached_tokens: 1,
        computed_tokens: 1,
        generated_tokens: 3,
        drafted_tokens: 0,
        accepted_tokens: 0,
        encoded_tokens: 0,
        elsewhere_tokens: 0,
        elsewhere_ms: 0,
        warnings: [],
        queue_ms: 0,
        look_ms: 0,
        recomputed_tokens: 0,
        finish: "end" as const,
      };
      return {
        begun: Promise.resolve(),
        text: Promise.resolve("a fake answer"),
        stats: Promise.resolve(stats),
        [Symbol.asyncDispose]: async () => undefined,
        async *[Symbol.asyncIterator]() {
          for (const text of ["a", " fake", " answer"]) yield { id: 0, text };
        },
      };
    },
    activity: { running: 0, queued: 0 },
    places: 8,
    failure: undefined,
    logits: async () => new Float32Array(1),
    score: async (plan, answer, options) => ({
      logits: answer.map(() => Float32Array.of(0, 1)),
      stats: await model.generate(plan, options).stats,
    }),
    close: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
    ...rest,
  };
  return model;
}

export type MemoryStore = BlockStore & { readonly blocks: Map<BlockKey, Block> };

export function memoryStore(): MemoryStore {
  const blocks = new Map<BlockKey, Block>();
  return {
    blocks,
    get: async (key) => blocks.get(key),
    has: async (key) => blocks.has(key),
    put: async (key, block) => void blocks.set(key, block),
    delete: async (keys) => keys.forEach((key) => blocks.delete(key)),
    async *keys() {
      yield* blocks.keys();
    },
    close: async () => undefined,
  };
}

const DIMENSIONS = 32;

/** Texts that share words are close. */
export function fakeEmbedder(): Embedder & { readonly embedded: string[] } {
  const embedded: string[] = [];
  return {
    name: "all-MiniLM-L6-v2", // the name by which clients request it
    id: "bag-of-words",
    dimensions: DIMENSIONS,
    embedded,
    async embed(texts) {
      embedded.push(...texts);
      return texts.map((text) => {
        const vector = new Float32Array(DIMENSIONS);
        for (const word of text.toLowerCase().match(/\p{L}+/gu) ?? [""]) {
          vector[createHash("sha256").update(word).digest()[0]! % DIMENSIONS]! += 1;
        }
        const norm = Math.hypot(...vector);
        return vector.map((value) => value / norm);
      });
    },
    countTokens: async (texts) => texts.join(" ").split(" ").length,
    close: async () => undefined,
  };
}
