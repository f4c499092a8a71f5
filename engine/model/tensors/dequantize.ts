import type { RawTensor } from "../files/model-file.js";
import { type Codes, newCodes } from "./encoding.js";
import { encodingOf } from "./table.js";

/** A tensor's values as float32, whatever its type; bit for bit equal to llama.cpp's. */
export function dequantize(tensor: RawTensor): Float32Array {
  const type = encodingOf(tensor);
  const { bytes } = tensor;
  const out = new Float32Array(tensor.shape.reduce((a, b) => a * b, 1));
  const blocks = out.length / type.elements;
  if (type.kind === "float") {
    type.read(bytes, 0, blocks, out);
    return out;
  }
  const step = Math.max(1, Math.floor(CHUNK / type.elements));
  const codes = newCodes(type, step * type.elements);
  for (let block = 0; block < blocks; block += step) {
    const count = Math.min(step, blocks - block);
    type.unpack(bytes, block * type.bytes, count, codes);
    writeValues(codes, type.group, out.subarray(block * type.elements, (block + count) * type.elements));
  }
  return out;
}

/** Reads rows of a matrix as float32; each call overwrites the previous result. */
export function rowReader({ name, type, shape, bytes }: RawTensor): (row: number) => Float32Array {
  const encoding = encodingOf({ name, type });
  const out = new Float32Array(shape[1]!);
  const blocks = out.length / encoding.elements;
  if (encoding.kind === "float") {
    return (row) => {
      encoding.read(bytes, row * blocks * encoding.bytes, blocks, out);
      return out;
    };
  }
  const codes = newCodes(encoding, out.length);
  return (row) => {
    encoding.unpack(bytes, row * blocks * encoding.bytes, blocks, codes);
    writeValues(codes, encoding.group, out);
    return out;
  };
}

/** Weights unpacked at a time: they stay in the processor's first-level cache. */
const CHUNK = 4096;

function writeValues({ codes, scales, minima }: Codes, group: number, out: Float32Array): void {
  for (let i = 0, at = 0; at < out.length; i++) {
    const scale = scales[i]!;
    const minimum = minima.length > 0 ? minima[i]! : 0;
    for (const end = at + group; at < end; at++) out[at] = codes[at]! * scale + minimum;
  }
}
