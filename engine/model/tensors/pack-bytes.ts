import type { RawTensor } from "../files/model-file.js";
import { rowReader } from "./dequantize.js";
import { newCodes } from "./encoding.js";
import type { Ordered } from "./pack.js";
import { encodingOf } from "./table.js";

/** A matrix and what is added to the weights of its rows, in their order; nothing if omitted. */
export type Changed = Ordered & { readonly change?: ((row: number, weights: Float32Array) => void) | undefined };

/** Weights that share a scale and a zero. */
export const BYTE_GROUP = 32;

/** A matrix `[rows, columns]` in 8 bits: a weight is `scale * (code - zero)`. */
export type PackedBytes = {
  /** `[rows, columns / BYTE_GROUP, BYTE_GROUP]` */
  readonly data: Uint8Array;
  /** `[rows, columns / BYTE_GROUP]` */
  readonly scales: Float32Array;
  /** `[rows, columns / BYTE_GROUP]` */
  readonly zeros: Uint8Array;
};

/**
 * The rows of several matrices of one width, one matrix below the other, whatever their types. Unless they are changed, codes of 8 bits or fewer around 0
 * in groups of 32 are kept; other weights are rounded to one of 256 steps from the least to the largest of their group, which moves
 * 4-bit weights by less than a thirtieth of their own step.
 */
export function packBytes(parts: readonly Changed[]): PackedBytes {
  const columns = parts[0]!.tensor.shape[1]!;
  const groups = columns / BYTE_GROUP;
  const rows = parts.reduce((sum, { tensor }) => sum + tensor.shape[0]!, 0);
  const packed = {
    data: new Uint8Array(rows * columns),
    scales: new Float32Array(rows * groups),
    zeros: new Uint8Array(rows * groups).fill(MIDDLE),
  };
  let row = 0;
  for (const { tensor, rowOrder, change } of parts) {
    const write = !change && hasCodesOfGroup(tensor) ? copyCodes(tensor) : roundRow(tensor);
    for (let i = 0; i < tensor.shape[0]!; i++, row++) {
      const own = <T extends Uint8Array | Float32Array>(values: T, length: number) =>
        values.subarray(row * length, (row + 1) * length) as T;
      const source = rowOrder ? rowOrder[i]! : i;
      write(
        { source, change: (weights) => change?.(i, weights) },
        own(packed.data, columns),
        own(packed.scales, groups),
        own(packed.zeros, groups),
      );
    }
  }
  return packed;
}

/** The code that stands for 0 in a group without another. */
const MIDDLE = 128;

/** Writes one row of a tensor, changed before it is rounded. */
type WriteRow = (
  row: { readonly source: number; readonly change: (weights: Float32Array) => void },
  data: Uint8Array,
  scales: Float32Array,
  zeros: Uint8Array,
) => void;

function hasCodesOfGroup(tensor: RawTensor): boolean {
  const type = encodingOf(tensor);
  return type.kind === "codes" && type.minima === undefined && type.group === BYTE_GROUP;
}

function copyCodes({ name, type, shape, bytes }: RawTensor): WriteRow {
  const encoding = encodingOf({ name, type });
  if (encoding.kind !== "codes") throw new Error(`${type} has no codes.`);
  const columns = shape[1]!;
  const blocks = columns / encoding.elements;
  const own = newCodes(encoding, columns);
  return ({ source }, data, scales) => {
    encoding.unpack(bytes, source * blocks * encoding.bytes, blocks, own);
    for (let i = 0; i < columns; i++) data[i] = own.codes[i]! + MIDDLE;
    scales.set(own.scales);
  };
}

function roundRow(tensor: RawTensor): WriteRow {
  const read = rowReader(tensor);
  return ({ source, change }, data, scales, zeros) => {
    const values = read(source);
    change(values);
    for (let group = 0, from = 0; from < values.length; group++, from += BYTE_GROUP) {
      let [least, most] = [0, 0];
      for (let i = from; i < from + BYTE_GROUP; i++) {
        const value = values[i]!;
        if (value < least) least = value;
        else if (value > most) most = value;
      }
      const scale = (most - least) / 255;
      if (scale === 0) {
        data.fill(MIDDLE, from, from + BYTE_GROUP);
        continue;
      }
      scales[group] = scale;
      zeros[group] = Math.round(-least / scale);
      // Truncation rounds to the nearest here, as no code is negative.
      for (let i = from; i < from + BYTE_GROUP; i++) data[i] = (values[i]! - least) / scale + 0.5;
    }
  };
}
