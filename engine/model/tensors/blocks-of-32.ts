import type { CodeEncoding, Codes } from "./encoding.js";
import { readHalf } from "./half.js";

/*
 * Types with one scale for 32 weights, and one minimum if they have any. In 16 bytes with two weights each, the low halves are
 * the first 16 weights. The layouts are those of ggml-common.h.
 */

const SIZE = 32;

export const Q8_0: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 34,
  group: SIZE,
  bits: 8,
  minima: undefined,
  unpack(bytes, from, blocks, { codes, scales }) {
    for (let block = 0; block < blocks; block++, from += 34) {
      scales[block] = readHalf(bytes, from);
      for (let i = 0; i < SIZE; i++) codes[block * SIZE + i] = bytes[from + 2 + i]!;
    }
  },
};

export const Q4_0: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 18,
  group: SIZE,
  bits: 4,
  minima: undefined,
  unpack(bytes, from, blocks, { codes, scales }) {
    for (let block = 0; block < blocks; block++, from += 18) {
      scales[block] = readHalf(bytes, from);
      unpackHalves(bytes, from + 2, codes, block * SIZE, -8);
    }
  },
};

export const Q4_1: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 20,
  group: SIZE,
  bits: 4,
  minima: { middle: 8, multiples: true },
  unpack(bytes, from, blocks, { codes, scales, minima }) {
    for (let block = 0; block < blocks; block++, from += 20) {
      scales[block] = readHalf(bytes, from);
      minima[block] = readHalf(bytes, from + 2);
      unpackHalves(bytes, from + 4, codes, block * SIZE, 0);
    }
  },
};

export const Q5_0: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 22,
  group: SIZE,
  bits: 8,
  minima: undefined,
  unpack(bytes, from, blocks, { codes, scales }) {
    for (let block = 0; block < blocks; block++, from += 22) {
      scales[block] = readHalf(bytes, from);
      unpackFifths(bytes, from + 2, codes, block * SIZE, -16);
    }
  },
};

export const Q5_1: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 24,
  group: SIZE,
  bits: 8,
  minima: { middle: 16 },
  unpack(bytes, from, blocks, { codes, scales, minima }) {
    for (let block = 0; block < blocks; block++, from += 24) {
      scales[block] = readHalf(bytes, from);
      minima[block] = readHalf(bytes, from + 2);
      unpackFifths(bytes, from + 4, codes, block * SIZE, 0);
    }
  },
};

/** Sixteen codes that are not evenly spaced, as IQ4_NL has them (`kvalues_iq4nl`). */
export const UNEVEN = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

export const IQ4_NL: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 18,
  group: SIZE,
  bits: 8,
  minima: undefined,
  unpack(bytes, from, blocks, out) {
    for (let block = 0; block < blocks; block++, from += 18) {
      out.scales[block] = readHalf(bytes, from);
      lookUpHalves(bytes, from + 2, out, block * SIZE, UNEVEN);
    }
  },
};

/** Twice the values of numbers with 1 sign, 2 exponent and 1 mantissa bit (OCP Microscaling Formats 1.0, FP4 E2M1). */
const E2M1 = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

/** An exponent byte (E8M0) precedes 32 numbers in E2M1. */
export const MXFP4: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 17,
  group: SIZE,
  bits: 8,
  minima: undefined,
  unpack(bytes, from, blocks, out) {
    for (let block = 0; block < blocks; block++, from += 17) {
      out.scales[block] = 2 ** (bytes[from]! - 128); // half of 2^(e - 127), because the codes are twice the numbers
      lookUpHalves(bytes, from + 1, out, block * SIZE, E2M1);
    }
  },
};

function unpackHalves(bytes: Uint8Array, from: number, codes: Int8Array, at: number, shift: number): void {
  for (let i = 0; i < 16; i++) {
    const byte = bytes[from + i]!;
    codes[at + i] = (byte & 15) + shift;
    codes[at + 16 + i] = (byte >> 4) + shift;
  }
}

/** 32 bits, the fifth bit of each code, followed by the other four bits. */
function unpackFifths(bytes: Uint8Array, from: number, codes: Int8Array, at: number, shift: number): void {
  const fifths = bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16) | (bytes[from + 3]! << 24);
  for (let i = 0; i < 16; i++) {
    const byte = bytes[from + 4 + i]!;
    codes[at + i] = ((byte & 15) | (((fifths >>> i) & 1) << 4)) + shift;
    codes[at + 16 + i] = ((byte >> 4) | (((fifths >>> (i + 16)) & 1) << 4)) + shift;
  }
}

/** Sixteen bytes with two indices each. */
export function lookUpHalves(bytes: Uint8Array, from: number, { codes }: Codes, at: number, values: Int8Array): void {
  for (let i = 0; i < 16; i++) {
    const byte = bytes[from + i]!;
    codes[at + i] = values[byte & 15]!;
    codes[at + 16 + i] = values[byte >> 4]!;
  }
}
