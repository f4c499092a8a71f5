import { KvspliceError } from "../../../plan/index.js";
import type { RawTensor } from "../files/model-file.js";

/** Elements of one quantisation block, in GGUF and in ONNX Runtime's MatMulNBits alike. */
export const BLOCK_SIZE = 32;

/** A linear layer's weight `[rows, columns]` as MatMulNBits takes it, without going through floats. */
export type QuantizedMatrix = {
  readonly bits: 4 | 8;
  readonly rows: number;
  readonly columns: number;
  /** `[rows, columns / 32, 16 or 32]`; 4-bit values lie two a byte, the earlier one in the low half. */
  readonly data: Uint8Array;
  /** `[rows * columns / 32]` */
  readonly scales: Float32Array;
  /** `[rows, ceil(columns / 32 * bits / 8)]` */
  readonly zeroPoints: Uint8Array;
};

const BITS: Partial<Record<RawTensor["type"], 4 | 8>> = { Q4_0: 4, Q4_1: 4, Q8_0: 8 };

/** How many bits a weight of this type has in MatMulNBits; undefined where it must go through floats. */
export function quantizedBits(tensor: RawTensor): 4 | 8 | undefined {
  return BITS[tensor.type];
}

/** Float value of IEEE 754 half precision bits. */
export function halfToFloat(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const magnitude =
    exponent === 0 ? mantissa * 2 ** -24 : exponent === 31 ? (mantissa ? NaN : Infinity) : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/** Values of a tensor as float32, whatever its type. */
export function dequantize(tensor: RawTensor): Float32Array {
  const { bytes, type } = tensor;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const elements = tensor.shape.reduce((a, b) => a * b, 1);
  const out = new Float32Array(elements);
  switch (type) {
    case "F32":
      for (let i = 0; i < elements; i++) out[i] = view.getFloat32(i * 4, true);
      return out;
    case "F16":
      for (let i = 0; i < elements; i++) out[i] = halfToFloat(view.getUint16(i * 2, true));
      return out;
    case "BF16": {
      const words = new Uint32Array(out.buffer);
      for (let i = 0; i < elements; i++) words[i] = view.getUint16(i * 2, true) << 16;
      return out;
    }
    case "Q8_0":
      for (let i = 0, at = 0; i < elements; i += BLOCK_SIZE, at += 34) {
        const scale = halfToFloat(view.getUint16(at, true));
        for (let j = 0; j < BLOCK_SIZE; j++) out[i + j] = view.getInt8(at + 2 + j) * scale;
      }
      return out;
    case "Q4_0":
    case "Q4_1": {
      const head = type === "Q4_0" ? 2 : 4;
      for (let i = 0, at = 0; i < elements; i += BLOCK_SIZE, at += head + 16) {
        const scale = halfToFloat(view.getUint16(at, true));
        const min = type === "Q4_0" ? -8 * scale : halfToFloat(view.getUint16(at + 2, true));
        for (let j = 0; j < 16; j++) {
          const byte = bytes[at + head + j]!;
          out[i + j] = (byte & 15) * scale + min;
          out[i + j + 16] = (byte >> 4) * scale + min;
        }
      }
      return out;
    }
    default:
      throw new KvspliceError("bad_model", `Tensor ${tensor.name} has type ${type}, which cannot be dequantised.`);
  }
}

/**
 * Repacks GGUF's Q4_0, Q4_1 or Q8_0 rows for MatMulNBits, bit for bit.
 *
 * Returns undefined for a Q4_1 weight whose minima are no integer multiples of its scales (`m = -zero_point * d`):
 * MatMulNBits' integer zero points cannot hold it, so it must go through floats. So must one whose columns are
 * reordered within quantisation blocks.
 *
 * `rowOrder[r]` is the source row of output row r, `columnOrder[c]` the source column of output column c; the order of
 * the file when left out.
 */
export function repack(tensor: RawTensor, rowOrder?: Int32Array, columnOrder?: Int32Array): QuantizedMatrix | undefined {
  const bits = quantizedBits(tensor);
  if (!bits || (columnOrder && !keepsBlocks(columnOrder))) return undefined;
  const [rows, columns] = tensor.shape as [number, number];
  const blocks = columns / BLOCK_SIZE;
  const packed = bits === 4 ? 16 : 32;
  const head = tensor.type === "Q4_1" ? 4 : 2;
  const { bytes } = tensor;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const data = new Uint8Array(rows * blocks * packed);
  const scales = new Float32Array(rows * blocks);
  const zeroRow = Math.ceil((blocks * bits) / 8);
  const zeroPoints = new Uint8Array(rows * zeroRow);
  for (let row = 0; row < rows; row++) {
    const source = rowOrder ? rowOrder[row]! : row;
    for (let block = 0; block < blocks; block++) {
      const sourceBlock = columnOrder ? columnOrder[block * BLOCK_SIZE]! / BLOCK_SIZE : block;
      const from = (source * blocks + sourceBlock) * (head + packed);
      const to = (row * blocks + block) * packed;
      const scale = halfToFloat(view.getUint16(from, true));
      scales[row * blocks + block] = scale;
      if (bits === 8) {
        for (let j = 0; j < 32; j++) data[to + j] = bytes[from + head + j]! ^ 0x80; // int8 + 128 as uint8
        zeroPoints[row * zeroRow + block] = 128;
        continue;
      }
      for (let j = 0; j < 16; j += 2) {
        const a = bytes[from + head + j]!;
        const b = bytes[from + head + j + 1]!;
        data[to + j / 2] = (a & 15) | ((b & 15) << 4);
        data[to + 8 + j / 2] = (a >> 4) | (b & 0xf0);
      }
      const exact = tensor.type === "Q4_0" ? 8 : scale === 0 ? 0 : -halfToFloat(view.getUint16(from + 2, true)) / scale;
      const zero = Math.round(exact);
      if (zero < 0 || zero > 15 || Math.abs(exact - zero) > 0.02) return undefined;
      zeroPoints[row * zeroRow + (block >> 1)]! |= zero << ((block & 1) * 4);
    }
  }
  return { bits, rows, columns, data, scales, zeroPoints };
}

/** Whether an order moves whole quantisation blocks. */
function keepsBlocks(columnOrder: Int32Array): boolean {
  return columnOrder.every((column, i) => (i % BLOCK_SIZE === 0 ? column % BLOCK_SIZE === 0 : column === columnOrder[i - 1]! + 1));
}
