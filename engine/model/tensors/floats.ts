import type { FloatEncoding } from "./encoding.js";
import { readHalf } from "./half.js";

export const F32: FloatEncoding = {
  kind: "float",
  elements: 1,
  bytes: 4,
  read(bytes, from, blocks, out) {
    new Uint8Array(out.buffer, out.byteOffset, 4 * blocks).set(bytes.subarray(from, from + 4 * blocks));
  },
};

export const F16: FloatEncoding = {
  kind: "float",
  elements: 1,
  bytes: 2,
  read(bytes, from, blocks, out) {
    for (let i = 0; i < blocks; i++) out[i] = readHalf(bytes, from + 2 * i);
  },
};

/** The upper half of a float32. */
export const BF16: FloatEncoding = {
  kind: "float",
  elements: 1,
  bytes: 2,
  read(bytes, from, blocks, out) {
    const words = new Uint32Array(out.buffer, out.byteOffset, blocks);
    for (let i = 0; i < blocks; i++) words[i] = (bytes[from + 2 * i]! << 16) | (bytes[from + 2 * i + 1]! << 24);
  },
};
