import { GROUP_TOKENS, type Block, type Float16Block, type Float32Block, type Int8Block, type Precision } from "./block.js";

const LARGEST_INT8 = 127;
const LARGEST_FLOAT16 = 65_504;

/** The block at a precision; its values are rounded to the nearest. */
export function quantize(block: Float32Block, precision: Precision, headSize: number): Block {
  switch (precision) {
    case "float32":
      return block;
    case "float16":
      return toFloat16(block);
    case "int8":
      return toInt8(block, headSize);
  }
}

function toFloat16({ layers, width, tokens, k, v }: Float32Block): Float16Block {
  return { layers, width, tokens, precision: "float16", k: float16Bits(k), v: float16Bits(v) };
}

/** Halves round to even; what is larger than the largest float16 becomes it. */
export function float16Bits(values: Float32Array): Uint16Array {
  const bits = new Uint16Array(values.length);
  const word = new Uint32Array(1);
  const float = new Float32Array(word.buffer);
  for (let i = 0; i < values.length; i++) {
    const magnitude = Math.min(Math.abs(values[i]!), LARGEST_FLOAT16);
    // Below 2^-14, numbers are multiples of 2^-24: adding 2^-1, whose last place that is, rounds to one.
    const subnormal = magnitude < 2 ** -14;
    float[0] = subnormal ? magnitude + 0.5 : magnitude;
    const whole = word[0]!;
    const rounded = subnormal ? whole - 0x3f00_0000 : (whole + 0xfff + ((whole >> 13) & 1) - 0x3800_0000) >> 13;
    bits[i] = rounded | (values[i]! < 0 ? 0x8000 : 0);
  }
  return bits;
}

function toInt8({ layers, width, tokens, k, v }: Float32Block, headSize: number): Int8Block {
  const groups = Math.ceil(tokens / GROUP_TOKENS);
  const kScales = new Float32Array(layers * groups * width);
  const vScales = new Float32Array((layers * tokens * width) / headSize);
  const block: Int8Block = { layers, width, tokens, precision: "int8", k: new Int8Array(k.length), v: new Int8Array(v.length), kScales, vScales };
  const largest = new Float32Array(width);
  for (let layer = 0; layer < layers; layer++) {
    for (let group = 0; group < groups; group++) {
      const from = (layer * tokens + group * GROUP_TOKENS) * width;
      const to = (layer * tokens + Math.min(tokens, (group + 1) * GROUP_TOKENS)) * width;
      scaleChannels(k, block.k, from, to, largest, kScales, (layer * groups + group) * width);
    }
  }
  for (let row = 0; row < vScales.length; row++) vScales[row] = scaleRow(v, block.v, row * headSize, (row + 1) * headSize);
  return block;
}

/** Quantises the tokens of `[from, to)`, each channel by its own scale, and writes the scales. */
function scaleChannels(values: Float32Array, into: Int8Array, from: number, to: number, largest: Float32Array, scales: Float32Array, scalesAt: number): void {
  const width = largest.length;
  largest.fill(0);
  for (let at = from; at < to; at += width) {
    for (let i = 0; i < width; i++) largest[i] = Math.max(largest[i]!, Math.abs(values[at + i]!));
  }
  for (let i = 0; i < width; i++) {
    scales[scalesAt + i] = largest[i]! / LARGEST_INT8;
    largest[i] = LARGEST_INT8 / largest[i]!; // Infinity where all are 0; 0 * Infinity is stored as 0
  }
  for (let at = from; at < to; at += width) {
    for (let i = 0; i < width; i++) into[at + i] = Math.round(values[at + i]! * largest[i]!);
  }
}

/** Quantises `[from, to)` by one scale, and returns it. */
function scaleRow(values: Float32Array, into: Int8Array, from: number, to: number): number {
  let largest = 0;
  for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(values[i]!));
  const inverse = LARGEST_INT8 / largest;
  for (let i = from; i < to; i++) into[i] = Math.round(values[i]! * inverse);
  return largest / LARGEST_INT8;
}
