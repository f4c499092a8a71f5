import { gguf, GGMLQuantizationType } from "@huggingface/gguf";
import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, openSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { KvspliceError } from "../../../plan/index.js";
import { readFully } from "../../../storage/index.js";

/** One tensor of the file, as its raw bytes. `shape` is row-major: `[rows, columns]`. */
export type RawTensor = {
  readonly name: string;
  readonly type: keyof typeof GGMLQuantizationType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
};

export type GgufMetadata = Readonly<Record<string, unknown>>;

/** A GGUF file: its metadata, and its tensors by name. */
export type GgufFile = {
  readonly metadata: GgufMetadata;
  /** SHA-256 of the whole file, hex. */
  readonly contentHash: string;
  tensor(name: string): RawTensor;
  /** One row of a matrix, as a tensor of its own. */
  row(name: string, index: number): RawTensor;
  has(name: string): boolean;
  /** Nothing is read after it. */
  close(): void;
};

/** Bytes and elements of one quantisation block, for the types that can be read. */
const BLOCK_LAYOUT: Partial<Record<keyof typeof GGMLQuantizationType, { elements: number; bytes: number }>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
};

/**
 * Opens a GGUF file: its tensors are read one by one, when they are asked for, so that it is never in memory as a whole.
 * @throws KvspliceError `bad_model` if it is not a GGUF file; `tensor` does if it is cut short, lacks the tensor, or the
 *   tensor has a type that is not read.
 */
export async function readGguf(path: string): Promise<GgufFile> {
  const parsed = await parse(path);
  const base = Number(parsed.tensorDataOffset);
  const infos = new Map(parsed.tensorInfos.map((info) => [info.name, info]));
  const file = openSync(path, "r");

  const read = (name: string, rowIndex?: number): RawTensor => {
    const info = infos.get(name);
    if (!info) throw new KvspliceError("bad_model", `${path} has no tensor ${name}. Only Llama-shaped models are supported.`);
    const type = GGMLQuantizationType[info.dtype] as keyof typeof GGMLQuantizationType;
    const layout = BLOCK_LAYOUT[type];
    if (!layout) {
      throw new KvspliceError(
        "bad_model",
        `Tensor ${name} of ${path} is ${type}; kvsplice reads ${Object.keys(BLOCK_LAYOUT).join(", ")}. Quantise the model to one of these.`,
      );
    }
    const whole = info.shape.map(Number).reverse();
    const shape = rowIndex === undefined ? whole : [1, whole[1]!];
    const length = (shape.reduce((a, b) => a * b, 1) / layout.elements) * layout.bytes;
    const bytes = readFully(file, base + Number(info.offset) + (rowIndex ?? 0) * length, length);
    if (!bytes) throw new KvspliceError("bad_model", `${path} is cut short: ${name} is not whole. Copy the file again.`);
    return { name, type, shape, bytes };
  };
  return {
    metadata: parsed.metadata,
    contentHash: await hashOf(path),
    has: (name) => infos.has(name),
    tensor: (name) => read(name),
    row: read,
    close: () => closeSync(file),
  };
}

/**
 * Reads what a GGUF file says before its tensors, and not these.
 * @throws KvspliceError `bad_model` if it is not a GGUF file
 */
export async function readGgufMetadata(path: string): Promise<GgufMetadata> {
  return (await parse(path)).metadata;
}

async function parse(path: string) {
  const parsed = await gguf(path, { allowLocalFile: true }).catch((cause: unknown) => {
    const what = existsSync(path) ? "cannot be read as a GGUF file" : "does not exist";
    throw new KvspliceError("bad_model", `${path} ${what}. Give the path of a .gguf model.`, { cause });
  });
  return { ...parsed, metadata: parsed.metadata as Record<string, unknown> };
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}
