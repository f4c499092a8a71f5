import type { RawTensor } from "../../../engine/model/files/model-file.js";
import { ENCODINGS } from "../../../engine/model/tensors/index.js";

/** Where the exponents of a block's scales and minima are. */
const HIGH_BYTES: Record<keyof typeof ENCODINGS, readonly number[]> = {
  F32: [3],
  F16: [1],
  BF16: [1],
  Q8_0: [1],
  Q4_0: [1],
  Q4_1: [1, 3],
  Q5_0: [1],
  Q5_1: [1, 3],
  Q2_K: [81, 83],
  Q3_K: [109],
  Q4_K: [1, 3],
  Q5_K: [1, 3],
  Q6_K: [209],
  IQ4_NL: [1],
  IQ4_XS: [1],
  MXFP4: [0],
};

/** A tensor of random bytes, without numbers that are infinite or negligible relative to the others. */
export function randomTensor(type: keyof typeof ENCODINGS, rows: number, columns: number, seed: number): RawTensor {
  const { elements, bytes } = ENCODINGS[type];
  const tensor = {
    name: `${type} ${rows} x ${columns}`,
    type,
    shape: [rows, columns],
    bytes: randomBytes((rows * columns * bytes) / elements, seed),
  };
  for (let at = 0; at < tensor.bytes.length; at += bytes)
    for (const high of HIGH_BYTES[type]) tensor.bytes[at + high] = (tensor.bytes[at + high]! & 0x81) | (type === "MXFP4" ? 0x70 : 0x3c);
  return tensor;
}

function randomBytes(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0, state = Math.imul(seed, 2654435761) | 1; i < length; i++)
    bytes[i] = (state = Math.imul(state, 1664525) + 1013904223) >>> 24;
  return bytes;
}
