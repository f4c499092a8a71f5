import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";

import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor } from "../runtime/index.js";

import { KvspliceError } from "../engine/index.js";
import { Pace } from "../plan/index.js";

/** Gives texts places in a space where like meanings are near. */
export interface Embedder {
  /** Vectors of different ids cannot be compared. */
  readonly id: string;
  readonly dimensions: number;
  /** One vector of length 1 for each text, `[dimensions]`. */
  embed(texts: readonly string[], options?: EmbedOptions): Promise<Float32Array[]>;
  /** Tokens that the texts are read as. */
  countTokens(texts: readonly string[]): Promise<number>;
  close(): Promise<void>;
}

export type EmbedOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Tokens of one text; a longer one is refused (`too_long`), without its being read to the end. Any number when left out. */
  readonly mostTokens?: number;
};

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

/** Tokens in one pass, which blocks the thread: enough to share the reading of the weights. */
const BATCH_TOKENS = 256;

/** Characters that are read for word pieces in one step, which takes some milliseconds. */
const READ_AT_ONCE = 2_048;

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

  async embed(texts: readonly string[], options: EmbedOptions = {}): Promise<Float32Array[]> {
    const { signal } = options;
    const sums = texts.map(() => new Float32Array(this.dimensions));
    const windows = await this.windowsOf(texts, options);
    windows.sort((a, b) => a.ids.length - b.ids.length);
    for (const batch of batchesOf(windows)) {
      if (signal?.aborted) throw new KvspliceError("cancelled", "Embedding was cancelled.", { cause: signal.reason });
      await this.addBatch(batch, sums);
      await setImmediate();
    }
    for (const sum of sums) normalise(sum);
    return sums;
  }

  async countTokens(texts: readonly string[]): Promise<number> {
    return (await this.windowsOf(texts, {})).reduce((sum, { ids }) => sum + ids.length, 0);
  }

  async close(): Promise<void> {
    await this.session.release();
  }

  private async windowsOf(texts: readonly string[], { signal, mostTokens = Infinity }: EmbedOptions): Promise<Window[]> {
    const [first, last] = [this.tokenizer.token_to_id("[CLS]")!, this.tokenizer.token_to_id("[SEP]")!];
    const pace = new Pace(signal);
    const windows: Window[] = [];
    for (const [index, text] of texts.entries()) {
      const ids: number[] = [];
      for (const part of partsOf(text)) {
        for (const id of this.tokenizer.encode(part, { add_special_tokens: false }).ids) ids.push(id);
        if (ids.length > mostTokens) throw new KvspliceError("too_long", `A text has more than ${mostTokens} tokens. Give a shorter one, or its parts.`);
        await pace.breathe();
      }
      for (let start = 0; start === 0 || start < ids.length; start += WINDOW_TOKENS - 2) {
        windows.push({ text: index, ids: [first, ...ids.slice(start, start + WINDOW_TOKENS - 2), last] });
      }
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

/** A text cut at white space, which no word piece spans; within a word where one is longer than a part. */
function* partsOf(text: string): Generator<string> {
  for (let start = 0; start < text.length; ) {
    let end = Math.min(text.length, start + READ_AT_ONCE);
    if (end < text.length) {
      const space = lastSpace(text, start, end);
      if (space > start) end = space;
      else if (/[\uDC00-\uDFFF]/.test(text[end]!)) end--;
    }
    yield text.slice(start, end);
    start = end;
  }
}

function lastSpace(text: string, start: number, end: number): number {
  for (let at = end - 1; at > start; at--) if (/\s/.test(text[at]!)) return at;
  return start;
}

/** Neighbouring windows that have few enough tokens together, each counted as the longest of them. */
function* batchesOf(windows: readonly Window[]): Generator<readonly Window[]> {
  let start = 0;
  for (let end = 1; end <= windows.length; end++) {
    if (end < windows.length && windows[end]!.ids.length * (end + 1 - start) <= BATCH_TOKENS) continue;
    yield windows.slice(start, end);
    start = end;
  }
}

function normalise(vector: Float32Array): void {
  const norm = Math.hypot(...vector);
  for (let i = 0; i < vector.length; i++) vector[i]! /= norm;
}
