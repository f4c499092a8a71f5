import type { RawTensor } from "../files/model-file.js";
import { type CodeEncoding, type Codes, newCodes } from "./encoding.js";
import { encodingOf } from "./table.js";

/** A matrix of a model's file, with its rows and columns in the desired order; the file's order if omitted. */
export type Ordered = {
  readonly tensor: RawTensor;
  /** The source row of each row. */
  readonly rowOrder?: Int32Array;
  /** The source column of each column. */
  readonly columnOrder?: Int32Array | undefined;
};

/** How a matrix is laid out in ONNX Runtime's MatMulNBits, or that it must be floats. */
export type Form = { readonly kind: "float" } | PackedForm;

export type PackedForm = {
  readonly kind: "packed";
  readonly bits: 4 | 8;
  /** Weights that share a scale. */
  readonly group: 16 | 32;
  /** How to represent that a code of 0 means something other than the middle of the code range. */
  readonly offset: "none" | "zero points" | "minima";
};

/**
 * A matrix `[rows, columns]` as codes, bit for bit those of the file: a weight is `scale * (code - zero) + minimum`. The zero
 * is that of the weight's group, or half of the codes' range.
 */
export type Packed = PackedForm & {
  readonly rows: number;
  readonly columns: number;
  /** `[rows, columns / group, group * bits / 8]`; 4-bit codes are two per byte, the earlier one in the low half. */
  readonly data: Uint8Array;
  /** `[rows, columns / group]` */
  readonly scales: Float32Array;
  /** `[rows, ceil(columns / group / 2)]`, laid out like the codes. */
  readonly zeroPoints: Uint8Array | undefined;
  /** `[columns / group, rows]`: the sums of the groups' activations times this matrix are the minima's contribution. */
  readonly minima: Float32Array | undefined;
};

/** The form in which a matrix of this type is kept. */
export function formOf(tensor: RawTensor): Form {
  const type = encodingOf(tensor);
  if (type.kind === "float") return { kind: "float" };
  const { bits, group } = type;
  return { kind: "packed", bits, group, offset: !type.minima ? "none" : hasIntegerZeros(tensor, type) ? "zero points" : "minima" };
}

/** Whether a column order moves whole groups, so that a packed matrix can follow it. */
export function keepsGroups(columnOrder: Int32Array, group: number): boolean {
  return columnOrder.every((column, i) => (i % group === 0 ? column % group === 0 : column === columnOrder[i - 1]! + 1));
}

/** The rows of several matrices of one form and width, one matrix below the other. */
export function pack(form: PackedForm, parts: readonly Ordered[]): Packed {
  const { bits, group, offset } = form;
  const columns = parts[0]!.tensor.shape[1]!;
  const rows = parts.reduce((sum, { tensor }) => sum + tensor.shape[0]!, 0);
  const groups = columns / group;
  const zeroBytes = Math.ceil(groups / 2);
  const packed = {
    ...form,
    rows,
    columns,
    data: new Uint8Array((rows * columns * bits) / 8),
    scales: new Float32Array(rows * groups),
    zeroPoints: offset === "zero points" ? new Uint8Array(rows * zeroBytes) : undefined,
    minima: offset === "minima" ? new Float32Array(groups * rows) : undefined,
  };
  // Rows of minima are columns of their matrix, so several are collected before they are written.
  const collected = new Float32Array(offset === "minima" ? COLLECTED_ROWS * groups : 0);
  let row = 0;
  for (const { tensor, rowOrder, columnOrder } of parts) {
    const type = encodingOf(tensor) as CodeEncoding;
    const middle = offset === "zero points" ? 8 : (type.minima?.middle ?? 0);
    const source = rowSource(tensor, type, columnOrder);
    for (let i = 0; i < tensor.shape[0]!; i++, row++) {
      const { codes, scales, minima } = source(rowOrder ? rowOrder[i]! : i);
      writeCodes(codes, bits, middle, packed.data, (row * columns * bits) / 8);
      packed.scales.set(scales, row * groups);
      if (packed.zeroPoints) writeZeroPoints(scales, minima, packed.zeroPoints, row * zeroBytes);
      if (!packed.minima) continue;
      const at = row % COLLECTED_ROWS;
      for (let group = 0; group < groups; group++) collected[group * COLLECTED_ROWS + at] = minima[group]! + scales[group]! * middle;
      if (at === COLLECTED_ROWS - 1 || row === rows - 1) writeCollected(collected, packed.minima, groups, rows, row - at, at + 1);
    }
  }
  return packed;
}

const COLLECTED_ROWS = 16;

/** Writes the minima of `count` rows, starting at `row`, into `[groups, rows]`. */
function writeCollected(collected: Float32Array, out: Float32Array, groups: number, rows: number, row: number, count: number): void {
  for (let group = 0; group < groups; group++) {
    const [from, to] = [group * COLLECTED_ROWS, group * rows + row];
    for (let i = 0; i < count; i++) out[to + i] = collected[from + i]!;
  }
}

function writeZeroPoints(scales: Float32Array, minima: Float32Array, out: Uint8Array, at: number): void {
  for (let group = 0; group < scales.length; group++)
    out[at + (group >> 1)]! |= integerZero(scales[group]!, minima[group]!)! << ((group & 1) * 4);
}

/** Reads a row of a matrix, unpacked; each call overwrites the previous result. */
function rowSource({ bytes, shape }: RawTensor, type: CodeEncoding, columnOrder?: Int32Array): (row: number) => Codes {
  const columns = shape[1]!;
  const blocks = columns / type.elements;
  const own = newCodes(type, columns);
  const read = (row: number): Codes => {
    type.unpack(bytes, row * blocks * type.bytes, blocks, own);
    return own;
  };
  if (!columnOrder) return read;
  const { group } = type;
  const from = Int32Array.from({ length: columns / group }, (_, i) => columnOrder[i * group]! / group);
  const moved = newCodes(type, columns);
  return (row) => {
    read(row);
    from.forEach((source, i) => {
      moved.codes.set(own.codes.subarray(source * group, (source + 1) * group), i * group);
      moved.scales[i] = own.scales[source]!;
      if (type.minima) moved.minima[i] = own.minima[source]!;
    });
    return moved;
  };
}

/** Subtracts `middle` from codes and writes them centred on half of their range, four at a time. */
function writeCodes(codes: Int8Array, bits: 4 | 8, middle: number, out: Uint8Array, at: number): void {
  const four = new Uint32Array(codes.buffer, codes.byteOffset, codes.length >> 2);
  if (bits === 4) {
    const shift = (8 - middle) * 0x01010101;
    const packed = new Uint16Array(out.buffer, out.byteOffset + at, four.length);
    for (let i = 0; i < four.length; i++) {
      const halves = ((four[i]! & 0x0f0f0f0f) + shift) & 0x0f0f0f0f; // modulo 16, so that nothing carries into the next code
      const pairs = halves | (halves >>> 4);
      packed[i] = (pairs & 0xff) | ((pairs >>> 8) & 0xff00);
    }
    return;
  }
  // Codes with a middle run from 0 to below twice the middle: nothing carries here either.
  const shift = 128 - middle;
  const packed = new Uint32Array(out.buffer, out.byteOffset + at, four.length);
  if (middle === 0) for (let i = 0; i < four.length; i++) packed[i] = four[i]! ^ 0x80808080;
  else for (let i = 0; i < four.length; i++) packed[i] = four[i]! + shift * 0x01010101;
}

/**
 * Whether all minima are integer multiples of their scales, apart from rounding to half precision, as in the output of a
 * quantiser for MatMulNBits. If so, no product with the minima is needed.
 */
function hasIntegerZeros(tensor: RawTensor, type: CodeEncoding): boolean {
  if (!type.minima?.multiples) return false;
  const source = rowSource(tensor, type);
  for (let row = 0; row < tensor.shape[0]!; row++) {
    const { scales, minima } = source(row);
    for (let i = 0; i < scales.length; i++) if (integerZero(scales[i]!, minima[i]!) === undefined) return false;
  }
  return true;
}

/** The 4-bit code that stands for 0, if there is one. */
function integerZero(scale: number, minimum: number): number | undefined {
  if (minimum === 0) return 0;
  const exact = -minimum / scale;
  const zero = Math.round(exact);
  return zero >= 0 && zero <= 15 && Math.abs(exact - zero) <= HALF_PRECISION_ERROR ? zero : undefined;
}

/** The error of a quotient up to 15 of two numbers, each rounded with a relative error up to 2^-11. */
const HALF_PRECISION_ERROR = 15 * 2 ** -10;
