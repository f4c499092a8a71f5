import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor } from "../runtime/index.js";

import { KvspliceError } from "../engine/index.js";

/** Gives texts places in a space where like meanings are near. */
export interface Embedder {
  /** Vectors of different ids cannot be compared. */
  readonly id: string;
  readonly dimensions: number;
  /** One vector of length 1 for each text, `[dimensions]`. */
  embed(texts: readonly string[], options?: { readonly signal?: AbortSignal | undefined }): Promise<Float32Array[]>;
  /** Tokens that the texts are read as. */
  countTokens(texts: readonly string[]): number;
  close(): Promise<void>;
}

export type EmbedderOptions = {
  /** Folder with the embedder's two files; the package's own by default. */
  readonly folder?: string;
  /** Threads within one pass; by default as many as onnxruntime chooses. */
  readonly threads?: number;
};

export const MINILM_ID = "minilm-l6-v2-int8/windows-256";
export const MINILM_DIMENSIONS = 384;

/** all-MiniLM-L6-v2 was used with at most 256 word pieces, [CLS] and [SEP] included (its model card). */
const WINDOW_TOKENS = 256;

/** Windows in one pass: enough to share the reading of the weights, and 16 x 256 tokens of activations stay small. */
const BATCH_WINDOWS = 16;

type Window = { readonly text: number; readonly ids: readonly number[] };

/**
 * Sentence embeddings by all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020) on onnxruntime: the mean of
 * the last layer's token vectors, then L2 norm. A text longer than 256 word pieces is read in windows side by side,
 * and the mean is over the tokens of all of them: its end counts as much as its beginning.
 *
 * @throws KvspliceError `bad_model` where its files are missing or broken
 */
export async function loadEmbedder(options: EmbedderOptions = {}): Promise<Embedder> {
  const folder = options.folder ?? join(dirname(createRequire(import.meta.url).resolve("kvsplice/package.json")), "models");
  try {
    const [session, tokenizer] = await Promise.all([
      InferenceSession.create(join(folder, "minilm-l6-v2-int8.onnx"), {
        ...(options.threads === undefined ? {} : { intraOpNumThreads: options.threads }),
      }),
      readFile(join(folder, "minilm-l6-v2-tokenizer.json"), "utf8").then((json) => new Tokenizer(JSON.parse(json), {})),
    ]);
    return new MiniLm(session, tokenizer);
  } catch (cause) {
    const message = `The embedder in ${folder} cannot be loaded (${(cause as Error).message}); install kvsplice again.`;
    throw new KvspliceError("bad_model", message, { cause });
  }
}

class MiniLm implements Embedder {
  readonly id = MINILM_ID;
  readonly dimensions = MINILM_DIMENSIONS;

  constructor(
    private readonly session: InferenceSession,
    private readonly tokenizer: Tokenizer,
  ) {}

  async embed(texts: readonly string[], { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Float32Array[]> {
    const sums = texts.map(() => new Float32Array(this.dimensions));
    const windows = texts.flatMap((text, index) => this.windowsOf(text, index));
    windows.sort((a, b) => a.ids.length - b.ids.length);
    for (let start = 0; start < windows.length; start += BATCH_WINDOWS) {
      if (signal?.aborted) throw new KvspliceError("cancelled", "Embedding was cancelled.", { cause: signal.reason });
      await this.addBatch(windows.slice(start, start + BATCH_WINDOWS), sums);
    }
    for (const sum of sums) normalise(sum);
    return sums;
  }

  countTokens(texts: readonly string[]): number {
    return texts.flatMap((text, index) => this.windowsOf(text, index)).reduce((sum, { ids }) => sum + ids.length, 0);
  }

  async close(): Promise<void> {
    await this.session.release();
  }

  private windowsOf(text: string, index: number): Window[] {
    const { ids } = this.tokenizer.encode(text, { add_special_tokens: false });
    const [first, last] = [this.tokenizer.token_to_id("[CLS]")!, this.tokenizer.token_to_id("[SEP]")!];
    const windows: Window[] = [];
    for (let start = 0; start === 0 || start < ids.length; start += WINDOW_TOKENS - 2) {
      windows.push({ text: index, ids: [first, ...ids.slice(start, start + WINDOW_TOKENS - 2), last] });
    }
    return windows;
  }

  /** Adds the windows' token vectors to the sums of their texts; the norm at the end makes a mean of them. */
  private async addBatch(windows: readonly Window[], sums: readonly Float32Array[]): Promise<void> {
    const length = Math.max(...windows.map((window) => window.ids.length));
    const shape = [windows.length, length];
    const ids = new BigInt64Array(windows.length * length);
    const mask = new BigInt64Array(windows.length * length);
    windows.forEach((window, row) => {
      window.ids.forEach((id, column) => (ids[row * length + column] = BigInt(id)));
      mask.fill(1n, row * length, row * length + window.ids.length);
    });
    const { last_hidden_state: hidden } = await this.session.run({
      input_ids: new Tensor("int64", ids, shape),
      attention_mask: new Tensor("int64", mask, shape),
      token_type_ids: new Tensor("int64", new BigInt64Array(ids.length), shape),
    });
    const data = hidden!.data as Float32Array;
    windows.forEach((window, row) => {
      const sum = sums[window.text]!;
      const begin = row * length * this.dimensions;
      for (let i = 0; i < window.ids.length * this.dimensions; i++) sum[i % this.dimensions]! += data[begin + i]!;
    });
  }
}

function normalise(vector: Float32Array): void {
  const norm = Math.hypot(...vector);
  for (let i = 0; i < vector.length; i++) vector[i]! /= norm;
}
