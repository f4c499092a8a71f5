/** A value of a GGUF file's metadata, by its type. */
export type GgufValue =
  | { readonly uint8: number }
  | { readonly uint16: number }
  | { readonly uint32: number }
  | { readonly int32: number }
  | { readonly float32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly uint64: bigint }
  | { readonly int64: bigint }
  | { readonly float64: number }
  | { readonly strings: readonly string[] }
  | { readonly int32s: readonly number[] }
  | { readonly float32s: readonly number[] };

/** `shape` in ggml's order: columns first. */
export type GgufTensor = { readonly name: string; readonly type: number; readonly shape: readonly number[]; readonly bytes: Uint8Array };

export const F32 = 0;
const ALIGNMENT = 32;

/** A version 3 GGUF file, in the order of docs/gguf.md of ggml. */
export function writeGguf(metadata: Readonly<Record<string, GgufValue>>, tensors: readonly GgufTensor[] = []): Buffer {
  const entries = Object.entries(metadata);
  const header = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(entries.length)];
  for (const [key, value] of entries) header.push(text(key), encode(value));
  const data: Buffer[] = [];
  let offset = 0;
  for (const { name, type, shape, bytes } of tensors) {
    header.push(text(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset));
    data.push(Buffer.from(bytes), padding(bytes.length));
    offset += bytes.length + padding(bytes.length).length;
  }
  const head = Buffer.concat(header);
  return Buffer.concat([head, tensors.length > 0 ? padding(head.length) : Buffer.alloc(0), ...data]);
}

/** A float tensor whose values are 0, 1, 2, ... */
export function counting(name: string, ...shape: readonly number[]): GgufTensor {
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i);
  return { name, type: F32, shape: [...shape].reverse(), bytes: new Uint8Array(values.buffer) };
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function encode(value: GgufValue): Buffer {
  const [[kind, content]] = Object.entries(value) as [[string, never]];
  const typed = (type: number, ...parts: readonly Buffer[]) => Buffer.concat([u32(type), ...parts]);
  const number = (bytes: number, write: (buffer: Buffer) => unknown) => {
    const buffer = Buffer.alloc(bytes);
    write(buffer);
    return buffer;
  };
  const array = (type: number, items: readonly Buffer[]) => typed(9, u32(type), u64(items.length), Buffer.concat(items));
  switch (kind) {
    case "uint8":
      return typed(0, Buffer.of(content));
    case "uint16":
      return typed(
        2,
        number(2, (buffer) => buffer.writeUInt16LE(content)),
      );
    case "uint32":
      return typed(4, u32(content));
    case "int32":
      return typed(
        5,
        number(4, (buffer) => buffer.writeInt32LE(content)),
      );
    case "float32":
      return typed(
        6,
        number(4, (buffer) => buffer.writeFloatLE(content)),
      );
    case "bool":
      return typed(7, Buffer.of(content ? 1 : 0));
    case "string":
      return typed(8, text(content));
    case "uint64":
      return typed(10, u64(content));
    case "int64":
      return typed(
        11,
        number(8, (buffer) => buffer.writeBigInt64LE(content)),
      );
    case "float64":
      return typed(
        12,
        number(8, (buffer) => buffer.writeDoubleLE(content)),
      );
    case "strings":
      return array(8, (content as readonly string[]).map(text));
    case "int32s":
      return array(
        5,
        (content as readonly number[]).map((each) => number(4, (buffer) => buffer.writeInt32LE(each))),
      );
    case "float32s":
      return array(
        6,
        (content as readonly number[]).map((each) => number(4, (buffer) => buffer.writeFloatLE(each))),
      );
    default:
      throw new Error(kind);
  }
}

function padding(length: number): Buffer {
  return Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}
