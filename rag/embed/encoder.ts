import type { Tokenizer } from "@huggingface/tokenizers";

import { KvspliceError, Pace } from "../../plan/index.js";
import type { Embedder, EmbedOptions } from "./embedder.js";
import type { EncoderFiles } from "./folder.js";
import type { EncoderNames, EncoderSessions, PassOptions } from "./session.js";

/** Characters split into word pieces in one step, which takes a few milliseconds. */
const READ_AT_ONCE = 2_048;

/** Names that encoders use for the vectors of their last layer, `[texts, tokens, dimensions]`. */
const TOKEN_VECTORS = ["last_hidden_state", "token_embeddings"];

type Window = { readonly text: number; readonly ids: readonly number[] };

/** Ids around each window: [CLS] and [SEP], or the encoder's equivalents. */
type Frame = { readonly first: readonly number[]; readonly last: readonly number[] };

/**
 * Sentence embeddings (Reimers and Gurevych 2019) on onnxruntime: the mean of the last layer's token vectors, or the first
 * one, then L2-normalised. A text longer than a window is read in adjacent windows, and the mean is over all of them: its
 * end counts as much as its beginning.
 */
export class SentenceEncoder implements Embedder {
  readonly id: string;
  readonly name: string;
  private readonly output: string;
  private readonly frame: Frame;

  private constructor(
    private readonly files: EncoderFiles,
    private readonly sessions: EncoderSessions,
    private readonly tokenizer: Tokenizer,
    readonly dimensions: number,
    readonly floor: number | undefined,
  ) {
    this.id = files.id;
    this.name = files.name;
    this.output = outputOf(sessions.names);
    this.frame = frameOf(tokenizer);
  }

  /** @throws Error if it outputs no token vectors */
  static async start(
    files: EncoderFiles,
    sessions: EncoderSessions,
    tokenizer: Tokenizer,
    floor: number | undefined,
  ): Promise<SentenceEncoder> {
    const probe = new SentenceEncoder(files, sessions, tokenizer, 0, floor);
    const { length } = await probe.vectorOf([...probe.frame.first, files.padId, ...probe.frame.last]);
    return new SentenceEncoder(files, sessions, tokenizer, length, floor);
  }

  /** A vector depends on its text alone: many encoders round the activations of a pass together, so each window has its own. */
  async embed(texts: readonly string[], options: EmbedOptions = {}): Promise<Float32Array[]> {
    const { signal, as } = options;
    const windows = await this.windowsOf(texts, options);
    const passes = { signal, urgent: as === "question" };
    const ends = await Promise.allSettled(windows.map(({ ids }) => this.vectorOf(ids, passes)));
    if (signal?.aborted) throw new KvspliceError("cancelled", "Embedding was cancelled.", { cause: signal.reason });
    const sums = texts.map(() => new Float32Array(this.dimensions));
    for (const [index, end] of ends.entries()) {
      if (end.status === "rejected") throw end.reason;
      const sum = sums[windows[index]!.text]!;
      for (let i = 0; i < sum.length; i++) sum[i]! += end.value[i]!;
    }
    for (const sum of sums) normalise(sum); // so that the sum is a mean
    return sums;
  }

  async countTokens(texts: readonly string[]): Promise<number> {
    return (await this.windowsOf(texts, {})).reduce((sum, { ids }) => sum + ids.length, 0);
  }

  async close(): Promise<void> {
    await this.sessions.close();
  }

  private async windowsOf(texts: readonly string[], { signal, mostTokens = Infinity, as }: EmbedOptions): Promise<Window[]> {
    const { first, last } = this.frame;
    const room = this.files.windowTokens - first.length - last.length;
    const before = as === undefined ? "" : this.files.prompts[as];
    const pace = new Pace(signal);
    const windows: Window[] = [];
    for (const [index, text] of texts.entries()) {
      const ids: number[] = [];
      for (const part of partsOf(before + text)) {
        for (const id of this.tokenizer.encode(part, { add_special_tokens: false }).ids) ids.push(id);
        if (ids.length > mostTokens)
          throw new KvspliceError("too_long", `A text has more than ${mostTokens} tokens. Give a shorter one, or split it.`);
        await pace.breathe();
      }
      for (let start = 0; start === 0 || start < ids.length; start += room) {
        windows.push({ text: index, ids: [...first, ...ids.slice(start, start + room), ...last] });
      }
    }
    return windows;
  }

  private vectorOf(ids: readonly number[], options?: PassOptions): Promise<Float32Array> {
    return this.sessions.pool({ ids, output: this.output, pooling: this.files.pooling }, options);
  }
}

function outputOf({ outputs }: EncoderNames): string {
  const found = TOKEN_VECTORS.find((name) => outputs.includes(name));
  if (found === undefined) throw new Error(`it outputs ${outputs.join(", ")}, but none of ${TOKEN_VECTORS.join(", ")}`);
  return found;
}

/** What the tokenizer puts around a text. */
function frameOf(tokenizer: Tokenizer): Frame {
  const [bare, framed] = [false, true].map((add_special_tokens) => tokenizer.encode("a", { add_special_tokens }).ids) as [
    number[],
    number[],
  ];
  const at = framed.findIndex((_, start) => bare.every((id, index) => framed[start + index] === id));
  return { first: framed.slice(0, at), last: framed.slice(at + bare.length) };
}

/** A text cut at white space, which no word piece spans; a word longer than a part is cut within. */
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

function normalise(vector: Float32Array): void {
  const norm = Math.hypot(...vector);
  for (let i = 0; i < vector.length; i++) vector[i]! /= norm;
}
