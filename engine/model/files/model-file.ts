import type { TensorType } from "./layout.js";

/** One tensor as raw bytes, read from the file on access. Row-major `[rows, columns]`, `[experts, rows, columns]` or `[length]`. */
export type RawTensor = TensorInfo & { readonly bytes: Uint8Array };

export type TensorInfo = { readonly name: string; readonly type: TensorType; readonly shape: readonly number[] };

/** A model's metadata, by GGUF's keys. 64-bit integers are numbers if a number can represent them, else bigints. */
export type ModelMetadata = Readonly<Record<string, unknown>>;

/**
 * The format that a model comes in, for the differences between the two: a GGUF follows llama.cpp, which interleaves the Q and
 * K rows of Llama's relatives in pairs; a Hugging Face folder follows transformers.
 */
export type Origin = "gguf" | "huggingface";

/**
 * The files of one model, whatever their format: metadata by GGUF's keys, tensors by GGUF's names. Tensors are read one by
 * one, on request, so that a model is never in memory as a whole.
 */
export type ModelFile = {
  /** Its name in messages: the path that was opened. */
  readonly path: string;
  /** The paths of all files that the content hash covers. */
  readonly parts: readonly string[];
  readonly origin: Origin;
  /** Options chosen on opening that change the tensors but not the hash; empty if there are none. */
  readonly variant: string;
  readonly metadata: ModelMetadata;
  names(): Iterable<string>;
  has(name: string): boolean;
  /** Type and shape, without reading the tensor. @throws KvspliceError `bad_model` if there is no tensor of this name */
  info(name: string): TensorInfo;
  /** @throws KvspliceError `bad_model` if there is no tensor of this name, or the file has changed since it was opened */
  tensor(name: string): RawTensor;
  /** Rows `[from, from + count)` as a separate tensor `[count, columns]`, reading no others; experts' rows follow one another. */
  rows(name: string, from: number, count: number): RawTensor;
  /** SHA-256, in hex, of everything that makes up the model: of the whole file if it is one. Computed once, on the first call. */
  contentHash(): Promise<string>;
  /** Nothing can be read after this. */
  close(): void;
};
