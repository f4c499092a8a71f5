import { gguf, GGMLQuantizationType } from "@huggingface/gguf";
import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, openSync, readSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { KvspliceError } from "../error.js";

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
  has(name: string): boolean;
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
 * Reads a GGUF file: its tensors one by one, when they are asked for, so that the file is never in memory as a whole.
 * @throws KvspliceError `bad_model` if it is not a GGUF file; `tensor` does if it is cut short, lacks the tensor, or the
 *   tensor has a type that is not read.
 */
export async function readGguf(path: string): Promise<GgufFile> {
  const parsed = await parse(path);
  const base = Number(parsed.tensorDataOffset);
  const tensors = new Map<string, () => RawTensor>();
  for (const info of parsed.tensorInfos) {
    tensors.set(info.name, () => {
      const type = GGMLQuantizationType[info.dtype] as keyof typeof GGMLQuantizationType;
      const layout = BLOCK_LAYOUT[type];
      if (!layout) {
        throw new KvspliceError(
          "bad_model",
          `Tensor ${info.name} of ${path} is ${type}; kvsplice reads ${Object.keys(BLOCK_LAYOUT).join(", ")}. Quantise the model to one of these.`,
        );
      }
      const shape = info.shape.map(Number).reverse();
      const elements = shape.reduce((a, b) => a * b, 1);
      const start = base + Number(info.offset);
      const bytes = readRange(path, start, (elements / layout.elements) * layout.bytes);
      if (!bytes) throw new KvspliceError("bad_model", `${path} is cut short: ${info.name} is not whole. Copy the file again.`);
      return { name: info.name, type, shape, bytes };
    });
  }
  return {
    metadata: parsed.metadata,
    contentHash: await hashOf(path),
    has: (name) => tensors.has(name),
    tensor(name) {
      const read = tensors.get(name);
      if (!read) throw new KvspliceError("bad_model", `${path} has no tensor ${name}. Only Llama-shaped models are supported.`);
      return read();
    },
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

/** Bytes of a file from `start` on; undefined where it ends before. */
function readRange(path: string, start: number, length: number): Uint8Array | undefined {
  const file = openSync(path, "r");
  try {
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const read = readSync(file, bytes, done, Math.min(length - done, 1 << 30), start + done);
      if (read === 0) return undefined;
      done += read;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}
