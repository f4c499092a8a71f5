/**
 * How the weights of a tensor type are laid out in a file, and what they mean.
 *
 * Quantised weights come in groups that share a scale: w = scale * code + minimum. Types without minima have codes
 * around 0, types with minima have codes from 0 up.
 */
export type Encoding = FloatEncoding | CodeEncoding;

/** Layout of one quantisation block, which is a whole number of groups. */
type Layout = { readonly elements: number; readonly bytes: number };

export type FloatEncoding = Layout & {
  readonly kind: "float";
  /** Reads `blocks` blocks, starting at byte `from`, to the start of `out`. */
  read(bytes: Uint8Array, from: number, blocks: number, out: Float32Array): void;
};

export type CodeEncoding = Layout & {
  readonly kind: "codes";
  /** Weights of one group. */
  readonly group: 16 | 32;
  /** Bits of a code in MatMulNBits: the fewest that can represent all codes and that it multiplies fast in groups of this size. */
  readonly bits: 4 | 8;
  /** For types with minima: the code in the middle of the range, and whether all minima may be multiples of the scales. */
  readonly minima: { readonly middle: number; readonly multiples?: true } | undefined;
  /** Reads `blocks` blocks, starting at byte `from`, to the start of `out`. */
  unpack(bytes: Uint8Array, from: number, blocks: number, out: Codes): void;
};

/** Unpacked weights. */
export type Codes = {
  /** `[elements]` */
  readonly codes: Int8Array;
  /** `[elements / group]` */
  readonly scales: Float32Array;
  /** `[elements / group]`; left alone by types without minima. */
  readonly minima: Float32Array;
};

export function newCodes({ group, minima }: CodeEncoding, elements: number): Codes {
  return {
    codes: new Int8Array(elements),
    scales: new Float32Array(elements / group),
    minima: new Float32Array(minima ? elements / group : 0),
  };
}
