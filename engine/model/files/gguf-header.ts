import { KvspliceError } from "../../../plan/index.js";
import { GgufCursor } from "./gguf-cursor.js";
import { bytesOf, layoutOf } from "./layout.js";
import type { ModelMetadata, TensorInfo } from "./model-file.js";

/** A tensor and its place: `offset` is in bytes from the file's start. */
export type PlacedTensor = TensorInfo & { readonly offset: number; readonly length: number };

/** What a GGUF file contains before its tensors (docs/gguf.md of ggml). */
export type GgufHeader = { readonly metadata: ModelMetadata; readonly tensors: readonly PlacedTensor[] };

const MAGIC = "GGUF";

/**
 * Limits against hostile files, each more than ten times what the largest models need. A file within them takes a few hundred
 * megabytes of memory at most. All other lengths are limited by the file's own.
 */
const MAX_KEYS = 100_000;
const MAX_TENSORS = 1_000_000;
const MAX_ARRAY_DEPTH = 2;
const MAX_HEADER_BYTES = 256 * 2 ** 20;
/** Values of all arrays together: a vocabulary of 262,144 has about a million. */
const MAX_VALUES = 16_000_000;
/** ggml's own limit (`GGML_MAX_DIMS`). */
const MAX_DIMENSIONS = 4;

const DEFAULT_ALIGNMENT = 32;

/** The minimum size of one key and value, or of one tensor's description: a length, a type, a byte, and so on. */
const KEY_BYTES = 8 + 4 + 1;
const TENSOR_BYTES = 8 + 4 + 8 + 4 + 8;

/** Value types, by number (`gguf_metadata_value_type`), with the minimum size of one in bytes. */
const VALUES: Record<number, { readonly bytes: number; readonly read: (cursor: GgufCursor, depth: number) => unknown }> = {
  0: { bytes: 1, read: (cursor) => cursor.uint8() },
  1: { bytes: 1, read: (cursor) => cursor.int8() },
  2: { bytes: 2, read: (cursor) => cursor.uint16() },
  3: { bytes: 2, read: (cursor) => cursor.int16() },
  4: { bytes: 4, read: (cursor) => cursor.uint32() },
  5: { bytes: 4, read: (cursor) => cursor.int32() },
  6: { bytes: 4, read: (cursor) => cursor.float32() },
  7: { bytes: 1, read: (cursor) => cursor.uint8() !== 0 },
  8: { bytes: 8, read: (cursor) => cursor.string() },
  9: { bytes: 12, read: readArray },
  10: { bytes: 8, read: (cursor) => cursor.uint64() },
  11: { bytes: 8, read: (cursor) => cursor.int64() },
  12: { bytes: 8, read: (cursor) => cursor.float64() },
};

/**
 * Reads the header of an open GGUF file of `size` bytes. Like llama.cpp, it reads versions 2 and 3, little-endian.
 *
 * kvsplice has its own reader because `@huggingface/gguf` 0.4 takes over a second for a vocabulary of 150,000 tokens, reads a
 * truncated header as zeros, and fails on a string of more than half a megabyte.
 *
 * @throws KvspliceError `bad_model` saying what the file is instead, or what is wrong with it
 */
export function readGgufHeader(file: number, size: number, path: string): GgufHeader {
  const cursor = new GgufCursor(file, size, path);
  const [tensorCount, keyCount] = readPreamble(cursor, path);
  const metadata: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.string();
    if (key in metadata) throw cursor.damaged(`it has the key ${key} twice`);
    metadata[key] = readValue(cursor, cursor.uint32(), 0);
    mustBeWithinHeader(cursor);
  }
  const described = [];
  for (let i = 0; i < tensorCount; i++) {
    described.push(readTensorInfo(cursor));
    mustBeWithinHeader(cursor);
  }
  const alignment = metadata["general.alignment"] ?? DEFAULT_ALIGNMENT;
  if (!isAlignment(alignment)) throw cursor.damaged("general.alignment is not a power of two");
  const start = Math.ceil(cursor.offset / alignment) * alignment;
  const tensors = described.map((tensor) => ({ ...tensor, offset: start + tensor.offset }));
  mustHoldTensors(tensors, size, path);
  return { metadata, tensors };
}

/** Counts of tensors and keys, once the file is known to be GGUF. */
function readPreamble(cursor: GgufCursor, path: string): [tensors: number, keys: number] {
  if (cursor.left < 4)
    throw new KvspliceError("bad_model", `${path} has only ${cursor.left} bytes and is not a model. Download or copy it again.`);
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(cursor.uint32());
  if (magic.toString("latin1") !== MAGIC) throw new KvspliceError("bad_model", `${path} is not a GGUF file: ${foreign(magic)}`);
  const version = cursor.uint32();
  if (version !== 0 && (version & 0xffff) === 0) {
    throw new KvspliceError(
      "bad_model",
      `${path} is big-endian, made for another kind of processor. Use a little-endian file of the model.`,
    );
  }
  if (version === 1)
    throw new KvspliceError("bad_model", `${path} is GGUF version 1, which llama.cpp no longer reads either. Convert the model again.`);
  if (version !== 2 && version !== 3)
    throw new KvspliceError("bad_model", `${path} is GGUF version ${version}; kvsplice reads versions 2 and 3.`);
  return [cursor.count("the list of tensors", TENSOR_BYTES, MAX_TENSORS), cursor.count("the list of keys", KEY_BYTES, MAX_KEYS)];
}

/** What a file that is not GGUF is, by its first bytes. */
function foreign(magic: Buffer): string {
  const text = magic.toString("latin1");
  if (/^(<!do|<!DO|<htm|<HTM|<\?xm)/.test(text)) return "it is a web page, saved in place of the model. Download the file itself.";
  if (text === "vers") return "it is a Git LFS pointer, not the file itself. Fetch it with git lfs pull, or download it.";
  if (["ggml", "lmgg", "ggjt", "tjgg", "fmgg"].includes(text))
    return "it is in a llama.cpp format older than GGUF. Use a GGUF file of the model.";
  if (text.startsWith("PK")) return "it is a PyTorch checkpoint or an archive. Use a GGUF file, or a Hugging Face folder with safetensors.";
  if (magic.every((byte) => byte === 0)) return "it begins with zeros, like an unfinished download. Download it again.";
  return "it does not begin with GGUF's magic number. Give a .gguf file, or a Hugging Face folder with config.json and safetensors.";
}

function readValue(cursor: GgufCursor, type: number, depth: number): unknown {
  const value = VALUES[type];
  if (!value) throw cursor.damaged(`a value before byte ${cursor.offset} has the unknown type ${type}`);
  return value.read(cursor, depth);
}

function readArray(cursor: GgufCursor, depth: number): unknown[] {
  if (depth >= MAX_ARRAY_DEPTH) throw cursor.damaged(`arrays are nested ${MAX_ARRAY_DEPTH + 1} deep at byte ${cursor.offset}`);
  const type = cursor.uint32();
  const value = VALUES[type];
  if (!value) throw cursor.damaged(`an array before byte ${cursor.offset} has the unknown type ${type}`);
  const length = cursor.count("an array", value.bytes, MAX_VALUES - cursor.values);
  cursor.values += length;
  const values: unknown[] = [];
  for (let i = 0; i < length; i++) values.push(value.read(cursor, depth + 1));
  return values;
}

/** A tensor's description; its offset is relative to where the tensors begin. */
function readTensorInfo(cursor: GgufCursor): PlacedTensor {
  const name = cursor.string();
  const dimensions = cursor.uint32();
  if (dimensions > MAX_DIMENSIONS) throw cursor.damaged(`tensor ${name} has ${dimensions} dimensions`);
  const shape = Array.from({ length: dimensions }, () => Number(cursor.uint64())).reverse();
  const elements = shape.reduce((a, b) => a * b, 1);
  const number = cursor.uint32();
  const layout = layoutOf(number);
  if (!layout)
    throw new KvspliceError(
      "bad_model",
      `Tensor ${name} has type ${number}, which kvsplice does not know. Use another quantisation of the model.`,
    );
  if (!Number.isSafeInteger(elements) || elements === 0) throw cursor.damaged(`tensor ${name} has the shape ${shape.join(" x ")}`);
  if ((shape.at(-1) ?? 1) % layout.elements !== 0) {
    throw cursor.damaged(
      `tensor ${name} is ${layout.name}, but its rows of ${shape.at(-1)} values are not whole blocks of ${layout.elements}`,
    );
  }
  return { name, type: layout.name, shape, offset: Number(cursor.uint64()), length: bytesOf(layout.name, elements) };
}

function mustBeWithinHeader(cursor: GgufCursor): void {
  if (cursor.offset > MAX_HEADER_BYTES) throw cursor.damaged(`its header is longer than ${MAX_HEADER_BYTES} bytes`);
}

function isAlignment(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 2 ** 30 && (value & (value - 1)) === 0;
}

function mustHoldTensors(tensors: readonly PlacedTensor[], size: number, path: string): void {
  const last = tensors.reduce<PlacedTensor | undefined>((a, b) => (a && a.offset + a.length >= b.offset + b.length ? a : b), undefined);
  const needed = last ? last.offset + last.length : 0;
  if (!Number.isSafeInteger(needed))
    throw new KvspliceError(
      "bad_model",
      `${path} is damaged: tensor ${last!.name} lies beyond the end of any file. Download or convert it again.`,
    );
  if (needed > size) {
    throw new KvspliceError(
      "bad_model",
      `${path} is cut short: it has ${size} of ${needed} bytes, and tensor ${last!.name} is incomplete. Download or copy it again.`,
    );
  }
}
