import { crc32 } from "node:zlib";
import { GROUP_TOKENS, PRECISIONS, type Block, type Precision } from "./block.js";

/** Version of the form below; blocks of another version do not verify. */
const FORMAT = "kvsplice-block-2";

/** The longest header that is read; a block's own takes about 500 bytes. */
const MAX_HEADER_BYTES = 4096;

const DTYPES = { float32: "F32", float16: "F16", int8: "I8" } as const;
const BYTES = { F32: 4, F16: 2, I8: 1 } as const;

type TensorName = "k" | "v" | "k_scales" | "v_scales";
type TensorEntry = {
  readonly dtype: keyof typeof BYTES;
  readonly shape: readonly [layers: number, rows: number, values: number];
  readonly data_offsets: readonly [start: number, end: number];
};
type Tensors = { readonly [name in TensorName]?: TensorEntry };
type Header = { readonly __metadata__: { readonly format: string; readonly key: string; readonly checksum: string } } & Tensors;

/** What tells a block's tensors: their dtypes, shapes and places follow. `heads` counts where V has scales. */
type Layout = { readonly precision: Precision; readonly layers: number; readonly tokens: number; readonly width: number; readonly heads: number };

/** A block as a safetensors file that says its key. Its checksum (CRC-32) covers header and data. */
export function encodeSafetensors(key: string, block: Block): Uint8Array[] {
  const arrays = block.precision === "int8" ? [block.kScales, block.vScales, block.k, block.v] : [block.k, block.v];
  const data = arrays.map((values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const heads = block.precision === "int8" ? block.vScales.length / (block.layers * block.tokens) : 0;
  const json = Buffer.from(headerText(key, tensorsOf({ ...block, heads }), data));
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, " ");
  json.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return [length, padded, ...data];
}

/** The block of a safetensors file, over the same memory; undefined where anything about it does not verify, or the key is another. */
export function decodeSafetensors(key: string, file: Buffer): Block | undefined {
  if (file.length < 8) return undefined;
  const headerLength = Number(file.readBigUInt64LE(0));
  if (headerLength > MAX_HEADER_BYTES || headerLength % 8 !== 0 || 8 + headerLength > file.length) return undefined;
  const text = file.toString("utf8", 8, 8 + headerLength);
  const layout = layoutOf(text);
  if (!layout) return undefined;
  const tensors = tensorsOf(layout);
  const data = file.subarray(8 + headerLength);
  // Of one layout, key and data there is one right header: whatever else stands there does not verify.
  if (data.length !== tensors.v!.data_offsets[1] || text.replace(/ +$/, "") !== headerText(key, tensors, [data])) return undefined;
  return blockOf(layout, tensors, data.byteOffset % 4 === 0 ? data : new Uint8Array(data));
}

/** What a header says of its tensors, if that makes sense. */
function layoutOf(text: string): Layout | undefined {
  let header: Partial<Header>;
  try {
    header = JSON.parse(text) as Partial<Header>;
  } catch {
    return undefined;
  }
  const precision = PRECISIONS.find((each) => DTYPES[each] === header.k?.dtype);
  if (precision === undefined || !Array.isArray(header.k?.shape)) return undefined;
  const [layers, tokens, width] = header.k.shape as TensorEntry["shape"];
  const heads = precision === "int8" ? Number(header.v_scales?.shape?.[2]) : 0;
  const sound = [layers, tokens, width, heads].every((count) => Number.isSafeInteger(count) && count >= 0);
  return sound ? { precision, layers, tokens, width, heads } : undefined;
}

/** The tensors in the order of their data; scales go first, so that all lie at multiples of their size. */
function tensorsOf({ precision, layers, tokens, width, heads }: Layout): Tensors {
  let at = 0;
  const entry = (dtype: TensorEntry["dtype"], rows: number, values: number): TensorEntry => {
    const start = at;
    at += layers * rows * values * BYTES[dtype];
    return { dtype, shape: [layers, rows, values], data_offsets: [start, at] };
  };
  const scales = precision === "int8" && { k_scales: entry("F32", Math.ceil(tokens / GROUP_TOKENS), width), v_scales: entry("F32", tokens, heads) };
  const dtype = DTYPES[precision];
  return { ...scales, k: entry(dtype, tokens, width), v: entry(dtype, tokens, width) };
}

function blockOf({ precision, layers, tokens, width }: Layout, tensors: Tensors, data: Uint8Array): Block {
  const common = { layers, tokens, width };
  const part = (name: TensorName): [buffer: ArrayBufferLike, offset: number, length: number] => {
    const { dtype, data_offsets: [start, end] } = tensors[name]!;
    return [data.buffer, data.byteOffset + start, (end - start) / BYTES[dtype]];
  };
  switch (precision) {
    case "float32":
      return { ...common, precision, k: new Float32Array(...part("k")), v: new Float32Array(...part("v")) };
    case "float16":
      return { ...common, precision, k: new Uint16Array(...part("k")), v: new Uint16Array(...part("v")) };
    case "int8":
      return {
        ...common,
        precision,
        k: new Int8Array(...part("k")),
        v: new Int8Array(...part("v")),
        kScales: new Float32Array(...part("k_scales")),
        vScales: new Float32Array(...part("v_scales")),
      };
  }
}

function headerText(key: string, tensors: Tensors, data: readonly Uint8Array[]): string {
  const header = (checksum: string) => JSON.stringify({ __metadata__: { format: FORMAT, key, checksum }, ...tensors } satisfies Header);
  return header(checksum(header(""), data));
}

/** CRC-32 of the header without its checksum, then of the data; 8 hex digits. */
function checksum(header: string, data: readonly Uint8Array[]): string {
  return data.reduce((sum, bytes) => crc32(bytes, sum), crc32(header)).toString(16).padStart(8, "0");
}
