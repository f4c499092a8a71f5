import { GROUP_TOKENS, type Block, type Float16Block, type Float32Block, type Int8Block, type Precision } from "./block.js";

const LARGEST_INT8 = 127;
/** No scale's inverse is larger: values that are all 0, or next to it, become 0. */
const LARGEST_INVERSE = 2 ** 100;

/** As the bits of float32: 65,504, 2^-14, and what the exponents' biases differ by. */
const LARGEST_FLOAT16 = 0x477f_e000;
const SMALLEST_NORMAL_FLOAT16 = 0x3880_0000;
const EXPONENT_BIAS = (127 - 15) << 23;

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
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = words[i]!;
    const magnitude = Math.min(word & 0x7fff_ffff, LARGEST_FLOAT16);
    const rounded =
      magnitude < SMALLEST_NORMAL_FLOAT16
        ? roundToEven(Math.abs(values[i]!) * 2 ** 24) // multiples of 2^-24
        : (magnitude + 0xfff + ((magnitude >> 13) & 1) - EXPONENT_BIAS) >> 13;
    bits[i] = rounded | ((word >> 16) & 0x8000);
  }
  return bits;
}

function roundToEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
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
    for (let i = 0; i < width; i++) {
      const magnitude = Math.abs(values[at + i]!);
      if (magnitude > largest[i]!) largest[i] = magnitude;
    }
  }
  const inverse = largest;
  for (let i = 0; i < width; i++) {
    scales[scalesAt + i] = largest[i]! / LARGEST_INT8;
    inverse[i] = inverseOf(largest[i]!);
  }
  for (let at = from; at < to; at += width) {
    for (let i = 0; i < width; i++) into[at + i] = nearest(values[at + i]! * inverse[i]!);
  }
}

/** Quantises `[from, to)` by one scale, and returns it. */
function scaleRow(values: Float32Array, into: Int8Array, from: number, to: number): number {
  let largest = 0;
  for (let i = from; i < to; i++) {
    const magnitude = Math.abs(values[i]!);
    if (magnitude > largest) largest = magnitude;
  }
  const inverse = inverseOf(largest);
  for (let i = from; i < to; i++) into[i] = nearest(values[i]! * inverse);
  return largest / LARGEST_INT8;
}

function inverseOf(largest: number): number {
  return Math.min(LARGEST_INT8 / largest, LARGEST_INVERSE);
}

/** Of a number of at most 127 and a bit; several times as fast as Math.round. */
function nearest(value: number): number {
  return ((value + 128.5) | 0) - 128;
}
