import { lookUpHalves, UNEVEN } from "./blocks-of-32.js";
import type { CodeEncoding } from "./encoding.js";
import { readHalf } from "./half.js";

/*
 * Types whose groups of 16 or 32 weights have scales that are themselves quantised, 256 weights at a time (llama.cpp's
 * k-quants and IQ4_XS). The layouts are those of ggml-common.h.
 */

const SIZE = 256;

/** One byte for each 16 weights (scale in the low half, minimum in the high half); 2-bit codes; the scale and minimum of these. */
export const Q2_K: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 84,
  group: 16,
  bits: 4,
  minima: { middle: 2 },
  unpack(bytes, from, blocks, { codes, scales, minima }) {
    for (let block = 0; block < blocks; block++, from += 84) {
      const scale = readHalf(bytes, from + 80);
      const minimum = readHalf(bytes, from + 82);
      for (let i = 0; i < 16; i++) {
        scales[block * 16 + i] = scale * (bytes[from + i]! & 15);
        minima[block * 16 + i] = -minimum * (bytes[from + i]! >> 4);
      }
      for (let run = 0; run < 8; run++) {
        const [bits, shift, at] = [from + 16 + (run >> 2) * 32, (run & 3) * 2, block * SIZE + run * 32];
        for (let i = 0; i < 32; i++) codes[at + i] = (bytes[bits + i]! >> shift) & 3;
      }
    }
  },
};

/** The high bit of each code, inverted; two low bits; twelve bytes with sixteen 6-bit scales; their scale. */
export const Q3_K: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 110,
  group: 16,
  bits: 4,
  minima: undefined,
  unpack(bytes, from, blocks, { codes, scales }) {
    for (let block = 0; block < blocks; block++, from += 110) {
      const scale = readHalf(bytes, from + 108);
      for (let i = 0; i < 16; i++) {
        const low = (bytes[from + 96 + (i & 7)]! >> (i & 8 ? 4 : 0)) & 15;
        const high = (bytes[from + 104 + (i & 3)]! >> ((i >> 2) * 2)) & 3;
        scales[block * 16 + i] = scale * ((low | (high << 4)) - 32);
      }
      for (let run = 0; run < 8; run++) {
        const [bits, shift, at] = [from + 32 + (run >> 2) * 32, (run & 3) * 2, block * SIZE + run * 32];
        for (let i = 0; i < 32; i++) codes[at + i] = ((bytes[bits + i]! >> shift) & 3) - 4 + (((bytes[from + i]! >> run) & 1) << 2);
      }
    }
  },
};

export const Q4_K: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 144,
  group: 32,
  bits: 4,
  minima: { middle: 8 },
  unpack(bytes, from, blocks, { codes, scales, minima }) {
    for (let block = 0; block < blocks; block++, from += 144) {
      readScales(bytes, from, scales, minima, block * 8);
      for (let pair = 0; pair < 4; pair++) {
        const [bits, at] = [from + 16 + pair * 32, block * SIZE + pair * 64];
        for (let i = 0; i < 32; i++) {
          const byte = bytes[bits + i]!;
          codes[at + i] = byte & 15;
          codes[at + 32 + i] = byte >> 4;
        }
      }
    }
  },
};

/** Like Q4_K, with the fifth bit of each code before the others. */
export const Q5_K: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 176,
  group: 32,
  bits: 8,
  minima: { middle: 16 },
  unpack(bytes, from, blocks, { codes, scales, minima }) {
    for (let block = 0; block < blocks; block++, from += 176) {
      readScales(bytes, from, scales, minima, block * 8);
      for (let pair = 0; pair < 4; pair++) {
        const [bits, at] = [from + 48 + pair * 32, block * SIZE + pair * 64];
        for (let i = 0; i < 32; i++) {
          const byte = bytes[bits + i]!;
          const fifths = bytes[from + 16 + i]! >> (pair * 2);
          codes[at + i] = (byte & 15) | ((fifths & 1) << 4);
          codes[at + 32 + i] = (byte >> 4) | ((fifths & 2) << 3);
        }
      }
    }
  },
};

/** Four low bits of each code, two high bits, sixteen scales, their scale. */
export const Q6_K: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 210,
  group: 16,
  bits: 8,
  minima: undefined,
  unpack(bytes, from, blocks, { codes, scales }) {
    for (let block = 0; block < blocks; block++, from += 210) {
      const scale = readHalf(bytes, from + 208);
      for (let i = 0; i < 16; i++) scales[block * 16 + i] = scale * ((bytes[from + 192 + i]! << 24) >> 24);
      for (let half = 0; half < 2; half++) {
        const [low, high, at] = [from + half * 64, from + 128 + half * 32, block * SIZE + half * 128];
        for (let i = 0; i < 32; i++) {
          const a = bytes[low + i]!;
          const b = bytes[low + 32 + i]!;
          const bits = bytes[high + i]!;
          codes[at + i] = ((a & 15) | ((bits & 3) << 4)) - 32;
          codes[at + 32 + i] = ((b & 15) | ((bits & 12) << 2)) - 32;
          codes[at + 64 + i] = ((a >> 4) | (bits & 48)) - 32;
          codes[at + 96 + i] = ((b >> 4) | ((bits & 192) >> 2)) - 32;
        }
      }
    }
  },
};

/** The scale of eight 6-bit scales, their high bits, their low bits; then indices of unevenly spaced codes. */
export const IQ4_XS: CodeEncoding = {
  kind: "codes",
  elements: SIZE,
  bytes: 136,
  group: 32,
  bits: 8,
  minima: undefined,
  unpack(bytes, from, blocks, out) {
    for (let block = 0; block < blocks; block++, from += 136) {
      const scale = readHalf(bytes, from);
      const high = bytes[from + 2]! | (bytes[from + 3]! << 8);
      for (let i = 0; i < 8; i++) {
        const low = (bytes[from + 4 + (i >> 1)]! >> ((i & 1) * 4)) & 15;
        out.scales[block * 8 + i] = scale * ((low | (((high >> (2 * i)) & 3) << 4)) - 32);
        lookUpHalves(bytes, from + 8 + i * 16, out, block * SIZE + i * 32, UNEVEN);
      }
    }
  },
};

/** The head of Q4_K and Q5_K: scale and minimum of eight 6-bit scales and eight 6-bit minima, which share twelve bytes. */
function readScales(bytes: Uint8Array, from: number, scales: Float32Array, minima: Float32Array, at: number): void {
  const scale = readHalf(bytes, from);
  const minimum = -readHalf(bytes, from + 2);
  for (let i = 0; i < 4; i++) {
    const [a, b, c] = [bytes[from + 4 + i]!, bytes[from + 8 + i]!, bytes[from + 12 + i]!];
    scales[at + i] = scale * (a & 63);
    minima[at + i] = minimum * (b & 63);
    scales[at + 4 + i] = scale * ((c & 15) | ((a >> 6) << 4));
    minima[at + 4 + i] = minimum * ((c >> 4) | ((b >> 6) << 4));
  }
}
