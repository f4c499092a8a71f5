import type { TensorType } from "./layout.js";

/** One tensor, as its raw bytes, which may be read from the file each time that they are looked at. `shape` is row-major: `[rows, columns]`, `[experts, rows, columns]` or `[length]`. */
export type RawTensor = TensorInfo & { readonly bytes: Uint8Array };

export type TensorInfo = { readonly name: string; readonly type: TensorType; readonly shape: readonly number[] };

/** What a model says of itself, by GGUF's keys. Integers of 64 bits are numbers where a number holds them, else bigints. */
export type ModelMetadata = Readonly<Record<string, unknown>>;

/**
 * Where a model's numbers come from, for what the two ways to keep one do differently: a GGUF follows llama.cpp, which
 * lays the Q and K rows of Llama's relatives in pairs side by side; a Hugging Face folder follows transformers.
 */
export type Origin = "gguf" | "huggingface";

/**
 * The files of one model, whatever their format: metadata by GGUF's keys, tensors by GGUF's names. Tensors are read one
 * by one, when they are asked for, so that a model is never in memory as a whole.
 */
export type ModelFile = {
  /** What to call it in messages: the path that was opened. */
  readonly path: string;
  /** The paths of all files that the content hash is of. */
  readonly parts: readonly string[];
  readonly origin: Origin;
  /** What was chosen on opening that changes the tensors and the hash does not tell; empty where nothing was. */
  readonly variant: string;
  readonly metadata: ModelMetadata;
  names(): Iterable<string>;
  has(name: string): boolean;
  /** Type and shape, without reading the tensor. @throws KvspliceError `bad_model` if there is none of the name */
  info(name: string): TensorInfo;
  /** @throws KvspliceError `bad_model` if there is none of the name, or the file changed since it was opened */
  tensor(name: string): RawTensor;
  /** Rows `[from, from + count)` as a tensor `[count, columns]` of their own, and no others read; experts' rows lie one behind the other. */
  rows(name: string, from: number, count: number): RawTensor;
  /** SHA-256 of all that the model is, hex: of the whole file where it is one. Read once, at the first call. */
  contentHash(): Promise<string>;
  /** Nothing is read after it. */
  close(): void;
};
