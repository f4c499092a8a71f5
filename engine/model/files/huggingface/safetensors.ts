import { closeSync, fstatSync, openSync } from "node:fs";
import { KvspliceError } from "../../../../plan/index.js";
import { readFully } from "../../../../storage/index.js";

/** Types that weights are stored in, by safetensors' names; GGUF's names for floats are the same. */
const BYTES = { F32: 4, F16: 2, BF16: 2, U8: 1 } as const;
export type StoredType = keyof typeof BYTES;
export type FloatType = Exclude<StoredType, "U8">;

const FLOATS: readonly FloatType[] = ["F32", "F16", "BF16"];

/** A tensor of a safetensors file, and where its values are. */
export type StoredTensor<T extends StoredType = FloatType> = {
  readonly file: number;
  readonly path: string;
  readonly type: T;
  readonly shape: readonly number[];
  readonly offset: number;
};

/** An open file. A tensor's type is checked only when the tensor is requested: a folder may contain some that are never read. */
export type SafetensorsFile = {
  readonly names: readonly string[];
  tensor(name: string): StoredTensor;
  /** A tensor of bytes, which are codes of some kind. */
  bytes(name: string): StoredTensor<"U8">;
  close(): void;
};

/** The reference implementation's limit on a header. */
const MAX_HEADER_BYTES = 100_000_000;

type Entry = { readonly dtype?: unknown; readonly shape?: unknown; readonly data_offsets?: unknown };

/**
 * Opens a safetensors file: eight bytes of length, a JSON header, and the values.
 * @throws KvspliceError `bad_model` if it is not one or is incomplete; `tensor` throws it for an invalid type or place
 */
export function openSafetensors(path: string): SafetensorsFile {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new KvspliceError(
      "bad_model",
      code === "ENOENT" ? `${path} is missing: download it, too.` : `${path} cannot be opened (${code}). Make it readable.`,
      { cause },
    );
  }
  try {
    const { size } = fstatSync(file);
    const { header, start } = readHeader(file, size, path);
    const where = { file, path, start, size };
    return {
      names: Object.keys(header).filter((name) => name !== "__metadata__"),
      tensor: (name) => place(header, name, where, FLOATS),
      bytes: (name) => place(header, name, where, ["U8"]),
      close: () => closeSync(file),
    };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

export function bytesOfValues(type: StoredType, count: number): number {
  return BYTES[type] * count;
}

function readHeader(file: number, size: number, path: string): { header: Readonly<Record<string, Entry>>; start: number } {
  const prefix = size >= 8 ? readFully(file, 0, 8) : undefined;
  const length = prefix ? Number(Buffer.from(prefix).readBigUInt64LE(0)) : Infinity;
  if (length > MAX_HEADER_BYTES) throw damaged(path, size < 8 ? `it has ${size} bytes` : "it does not begin like a safetensors file");
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

type Where = { readonly file: number; readonly path: string; readonly start: number; readonly size: number };

function place<T extends StoredType>(
  header: Readonly<Record<string, Entry>>,
  name: string,
  { file, path, start, size }: Where,
  types: readonly T[],
): StoredTensor<T> {
  const { dtype, shape, data_offsets } = header[name] ?? {};
  if (typeof dtype !== "string" || !isCounts(shape) || !isCounts(data_offsets) || data_offsets.length !== 2)
    throw damaged(path, `its header does not describe ${name}`);
  const type = types.find((each) => each === dtype);
  if (type === undefined) {
    throw new KvspliceError(
      "bad_model",
      `${name} in ${path} has type ${dtype}; kvsplice reads ${types.join(", ")}. Use a checkpoint in one of these, or a GGUF file of the model.`,
    );
  }
  const [from, to] = data_offsets as [number, number];
  if (
    to - from !==
    bytesOfValues(
      type,
      shape.reduce((a, b) => a * b, 1),
    )
  )
    throw damaged(path, `the length of ${name} does not match its shape ${shape.join(" x ")}`);
  if (start + to > size) throw new KvspliceError("bad_model", `${path} is cut short: ${name} is incomplete. Download or copy it again.`);
  return { file, path, type, shape, offset: start + from };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((each) => Number.isSafeInteger(each) && (each as number) >= 0);
}

function damaged(path: string, how: string): KvspliceError {
  return new KvspliceError("bad_model", `${path} is damaged: ${how}. Download it again.`);
}
