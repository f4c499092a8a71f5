import { closeSync, fstatSync, openSync } from "node:fs";
import { KvspliceError } from "../../../../plan/index.js";
import { readFully } from "../../../../storage/index.js";

/** Types that weights are kept in, by safetensors' names; those of GGUF are the same. */
const BYTES = { F32: 4, F16: 2, BF16: 2 } as const;
export type FloatType = keyof typeof BYTES;

/** A tensor of a safetensors file, and where its values lie. */
export type StoredTensor = { readonly file: number; readonly path: string; readonly type: FloatType; readonly shape: readonly number[]; readonly offset: number };

/** An open file. Its tensors' types are not looked at before they are asked for: a folder may hold some that are not read. */
export type SafetensorsFile = { readonly names: readonly string[]; tensor(name: string): StoredTensor; close(): void };

/** The reference implementation's own bound of a header. */
const MAX_HEADER_BYTES = 100_000_000;

type Entry = { readonly dtype?: unknown; readonly shape?: unknown; readonly data_offsets?: unknown };

/**
 * Opens a safetensors file: eight bytes of length, a header of JSON, and the values.
 * @throws KvspliceError `bad_model` if it is not one, or not whole; `tensor` does for a type or place that is not sound
 */
export function openSafetensors(path: string): SafetensorsFile {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new KvspliceError("bad_model", code === "ENOENT" ? `${path} is missing: download it, too.` : `${path} cannot be opened (${code}). Make it readable.`, { cause });
  }
  try {
    const { size } = fstatSync(file);
    const { header, start } = readHeader(file, size, path);
    return { names: Object.keys(header).filter((name) => name !== "__metadata__"), tensor: (name) => place(header, name, { file, path, start, size }), close: () => closeSync(file) };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

export function bytesOfFloats(type: FloatType, count: number): number {
  return BYTES[type] * count;
}

function readHeader(file: number, size: number, path: string): { header: Readonly<Record<string, Entry>>; start: number } {
  const prefix = size >= 8 ? readFully(file, 0, 8) : undefined;
  const length = prefix ? Number(Buffer.from(prefix).readBigUInt64LE(0)) : Infinity;
  if (length > MAX_HEADER_BYTES) throw damaged(path, size < 8 ? `it has ${size} bytes` : "it does not begin as a safetensors file");
  const bytes = 8 + length <= size ? readFully(file, 8, length) : undefined;
  if (!bytes) throw new KvspliceError("bad_model", `${path} is cut short: it ends within its header. Download or copy it again.`);
  let header: unknown;
  try {
    header = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw damaged(path, "its header is not JSON");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) throw damaged(path, "its header is not an object");
  return { header: header as Readonly<Record<string, Entry>>, start: 8 + length };
}

function place(header: Readonly<Record<string, Entry>>, name: string, { file, path, start, size }: { file: number; path: string; start: number; size: number }): StoredTensor {
  const { dtype, shape, data_offsets } = header[name] ?? {};
  if (typeof dtype !== "string" || !isCounts(shape) || !isCounts(data_offsets) || data_offsets.length !== 2) throw damaged(path, `its header does not describe ${name}`);
  if (!(dtype in BYTES)) {
    throw new KvspliceError("bad_model", `${name} of ${path} is of type ${dtype}; kvsplice reads ${Object.keys(BYTES).join(", ")}. Use a checkpoint in one of these, or a GGUF file of the model.`);
  }
  const type = dtype as FloatType;
  const [from, to] = data_offsets as [number, number];
  if (to - from !== bytesOfFloats(type, shape.reduce((a, b) => a * b, 1))) throw damaged(path, `${name} has another length than its shape ${shape.join(" x ")}`);
  if (start + to > size) throw new KvspliceError("bad_model", `${path} is cut short: ${name} is not whole. Download or copy it again.`);
  return { file, path, type, shape, offset: start + from };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((each) => Number.isSafeInteger(each) && (each as number) >= 0);
}

function damaged(path: string, how: string): KvspliceError {
  return new KvspliceError("bad_model", `${path} is damaged: ${how}. Download it again.`);
}
