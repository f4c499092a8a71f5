import { crc32 } from "node:zlib";
import type { Block } from "./block.js";

/** Version of the form below; blocks of another version do not verify. */
const FORMAT = "kvsplice-block-1";

/** The longest header that is read; a block's own takes about 400 bytes. */
const MAX_HEADER_BYTES = 4096;

type Header = {
  __metadata__: { format: string; key: string; checksum: string };
  k: TensorEntry;
  v: TensorEntry;
};
type TensorEntry = { dtype: "F32"; shape: [layers: number, tokens: number, width: number]; data_offsets: [number, number] };

/** A block as a safetensors file that says its key. Its checksum (CRC-32) covers header and data. */
export function encodeSafetensors(key: string, block: Block): Uint8Array[] {
  const bytes = block.k.byteLength;
  const shape: TensorEntry["shape"] = [block.layers, block.tokens, block.width];
  const header: Header = {
    __metadata__: { format: FORMAT, key, checksum: "" },
    k: { dtype: "F32", shape, data_offsets: [0, bytes] },
    v: { dtype: "F32", shape, data_offsets: [bytes, 2 * bytes] },
  };
  const data = [block.k, block.v].map((values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  header.__metadata__.checksum = checksum(header, data);
  const json = Buffer.from(JSON.stringify(header));
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
  const data = file.subarray(8 + headerLength);
  let header: Header;
  try {
    header = JSON.parse(file.toString("utf8", 8, 8 + headerLength)) as Header;
  } catch {
    return undefined;
  }
  const stated = header.__metadata__?.checksum;
  if (header.__metadata__?.format !== FORMAT || header.__metadata__.key !== key || !Array.isArray(header.k?.shape)) return undefined;
  const padding = file.subarray(8 + Buffer.byteLength(JSON.stringify(header)), 8 + headerLength);
  if (!padding.every((byte) => byte === 0x20) || checksum(header, [data]) !== stated) return undefined;
  const [layers, tokens, width] = header.k.shape;
  const size = layers * tokens * width;
  if (data.length !== size * 8) return undefined;
  const at = data.byteOffset;
  if (at % 4 !== 0) return undefined;
  return { layers, tokens, width, k: new Float32Array(data.buffer, at, size), v: new Float32Array(data.buffer, at + size * 4, size) };
}

/** CRC-32 of the header without its checksum, then of the data; 8 hex digits. */
function checksum(header: Header, data: readonly Uint8Array[]): string {
  const bare = JSON.stringify({ ...header, __metadata__: { ...header.__metadata__, checksum: "" } });
  return data.reduce((sum, bytes) => crc32(bytes, sum), crc32(bare)).toString(16).padStart(8, "0");
}
