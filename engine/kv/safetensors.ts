import { crc32 } from "node:zlib";
import { arraysOf, type Block, blockSizes, PRECISIONS, type Precision } from "./block.js";
import type { LayerShape } from "./form.js";

/** Version of the format below; blocks of another version do not verify. */
const FORMAT = "kvsplice-block-3";

/** The longest header that is read; a block's own is about 500 bytes, and longer if its layers differ. */
const MAX_HEADER_BYTES = 16_384;

/** More layers than any model has: nothing is allocated for what a header claims beyond that. */
const MAX_LAYERS = 1024;

const DTYPES = { float32: "F32", float16: "F16", int8: "I8" } as const;
const BYTES = { F32: 4, F16: 2, I8: 1 } as const;

type TensorName = "k" | "v" | "k_scales" | "v_scales";
type TensorEntry = {
  readonly dtype: keyof typeof BYTES;
  readonly shape: readonly [values: number];
  readonly data_offsets: readonly [start: number, end: number];
};
type Tensors = { readonly [name in TensorName]?: TensorEntry };
type Metadata = {
  readonly format: string;
  readonly key: string;
  readonly tokens: string;
  readonly layers: string;
  readonly checksum: string;
};
type Header = { readonly __metadata__: Metadata } & Tensors;

/** What determines a block's tensors: their dtypes, shapes and offsets follow from it. */
type Layout = { readonly precision: Precision; readonly tokens: number; readonly layers: readonly LayerShape[] };

/** A block as a safetensors file that contains its key. Its checksum (CRC-32) covers header and data. */
export function encodeSafetensors(key: string, block: Block): Uint8Array[] {
  const data = arraysOf(block).map((values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const json = Buffer.from(headerText(key, block, data));
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, " ");
  json.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return [length, padded, ...data];
}

/** The block in a safetensors file, sharing its memory; undefined if anything does not verify, or the key differs. */
export function decodeSafetensors(key: string, file: Buffer): Block | undefined {
  if (file.length < 8) return undefined;
  const headerLength = Number(file.readBigUInt64LE(0));
  if (headerLength > MAX_HEADER_BYTES || headerLength % 8 !== 0 || 8 + headerLength > file.length) return undefined;
  const text = file.toString("utf8", 8, 8 + headerLength);
  const layout = layoutOf(text);
  if (!layout) return undefined;
  const tensors = tensorsOf(layout);
  const data = file.subarray(8 + headerLength);
  // For one layout, key and data exactly one header is right: any other does not verify.
  if (data.length !== tensors.v!.data_offsets[1] || text.replace(/ +$/, "") !== headerText(key, layout, [data])) return undefined;
  return blockOf(layout, tensors, data.byteOffset % 4 === 0 ? data : new Uint8Array(data));
}

/** What a header says about its tensors, if that makes sense. */
function layoutOf(text: string): Layout | undefined {
  let header: Partial<Header>;
  try {
    header = JSON.parse(text) as Partial<Header>;
  } catch {
    return undefined;
  }
  if (typeof header !== "object" || header === null) return undefined;
  const precision = PRECISIONS.find((each) => DTYPES[each] === header.k?.dtype);
  const tokens = Number(header.__metadata__?.tokens);
  const layers = parseLayers(String(header.__metadata__?.layers));
  return precision !== undefined && layers && Number.isSafeInteger(tokens) && tokens >= 0 ? { precision, tokens, layers } : undefined;
}

/** Layers as text, with equal neighbours grouped: `30x3x64` means 30 layers of 3 heads of 64. */
function layersText(layers: readonly LayerShape[]): string {
  const runs: { count: number; heads: number; headSize: number }[] = [];
  for (const { heads, headSize } of layers) {
    const run = runs.at(-1);
    if (run?.heads === heads && run.headSize === headSize) run.count++;
    else runs.push({ count: 1, heads, headSize });
  }
  return runs.map(({ count, heads, headSize }) => `${count}x${heads}x${headSize}`).join(",");
}

function parseLayers(text: string): LayerShape[] | undefined {
  const layers: LayerShape[] = [];
  for (const run of text.split(",")) {
    const [, count, heads, headSize] = /^(\d{1,4})x(\d{1,6})x(\d{1,6})$/.exec(run) ?? [];
    if (count === undefined || layers.length + Number(count) > MAX_LAYERS) return undefined;
    for (let i = 0; i < Number(count); i++) layers.push({ heads: Number(heads), headSize: Number(headSize) });
  }
  return layers;
}

/** The tensors in the order of their data; scales come first, so that all are aligned to their element size. */
function tensorsOf({ precision, tokens, layers }: Layout): Tensors {
  let at = 0;
  const entry = (dtype: TensorEntry["dtype"], values: number): TensorEntry => {
    const start = at;
    at += values * BYTES[dtype];
    return { dtype, shape: [values], data_offsets: [start, at] };
  };
  const sizes = blockSizes(layers, tokens);
  const scales = precision === "int8" && { k_scales: entry("F32", sizes.kScales), v_scales: entry("F32", sizes.vScales) };
  const dtype = DTYPES[precision];
  return { ...scales, k: entry(dtype, sizes.values), v: entry(dtype, sizes.values) };
}

function blockOf({ precision, tokens, layers }: Layout, tensors: Tensors, data: Uint8Array): Block {
  const common = { layers, tokens };
  const part = (name: TensorName): [buffer: ArrayBufferLike, offset: number, length: number] => {
    const {
      dtype,
      data_offsets: [start, end],
    } = tensors[name]!;
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

function headerText(key: string, layout: Layout, data: readonly Uint8Array[]): string {
  const metadata = { format: FORMAT, key, tokens: String(layout.tokens), layers: layersText(layout.layers) };
  const tensors = tensorsOf(layout);
  const header = (checksum: string) => JSON.stringify({ __metadata__: { ...metadata, checksum }, ...tensors } satisfies Header);
  return header(checksum(header(""), data));
}

/** CRC-32 of the header without its checksum, then of the data; 8 hex digits. */
function checksum(header: string, data: readonly Uint8Array[]): string {
  return data
    .reduce((sum, bytes) => crc32(bytes, sum), crc32(header))
    .toString(16)
    .padStart(8, "0");
}
