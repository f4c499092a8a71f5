/** Weights that are quantised together; the same for both types. */
export const QUANTIZED_GROUP = 32;

/**
 * Quantises like llama.cpp's `quantize_row_q8_0` and `quantize_row_q4_0`: in groups of 32, Q8_0 with the scale that maps the
 * largest magnitude to 127, Q4_0 with the one that maps it, with its sign, to -8.
 *
 * @param values a whole number of groups
 */
export function quantize(values: Float32Array, type: "Q8_0" | "Q4_0"): Uint8Array {
  const groups = values.length / QUANTIZED_GROUP;
  const write = type === "Q8_0" ? writeQ8 : writeQ4;
  const out = new Uint8Array(groups * (type === "Q8_0" ? 34 : 18));
  const view = new DataView(out.buffer);
  for (let group = 0; group < groups; group++) write(values, group * QUANTIZED_GROUP, view, (group * out.length) / groups);
  return out;
}

function writeQ8(values: Float32Array, from: number, out: DataView, at: number): void {
  let most = 0;
  for (let i = 0; i < QUANTIZED_GROUP; i++) most = Math.max(most, Math.abs(values[from + i]!));
  const scale = Math.fround(most / 127);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  out.setUint16(at, floatToHalf(scale), true);
  for (let i = 0; i < QUANTIZED_GROUP; i++) {
    const value = Math.fround(values[from + i]! * inverse);
    out.setInt8(at + 2 + i, Math.sign(value) * Math.floor(Math.abs(value) + 0.5)); // halves away from zero, as C rounds
  }
}

function writeQ4(values: Float32Array, from: number, out: DataView, at: number): void {
  let largest = 0;
  for (let i = 0; i < QUANTIZED_GROUP; i++) if (Math.abs(values[from + i]!) > Math.abs(largest)) largest = values[from + i]!;
  const scale = Math.fround(largest / -8);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  const code = (i: number) => Math.min(15, Math.trunc(Math.fround(Math.fround(values[from + i]! * inverse) + 8.5)));
  out.setUint16(at, floatToHalf(scale), true);
  for (let i = 0; i < QUANTIZED_GROUP / 2; i++) out.setUint8(at + 2 + i, code(i) | (code(i + QUANTIZED_GROUP / 2) << 4));
}

const FLOAT = new Float32Array(1);
const BITS = new Uint32Array(FLOAT.buffer);

/** IEEE 754 half precision bits of a number, rounded to nearest, ties to even. */
export function floatToHalf(value: number): number {
  FLOAT[0] = value;
  const bits = BITS[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7e00; // not a number
  if (magnitude >= 0x4780_0000) return sign | 0x7c00; // 65,536 and more
  if (magnitude < 0x3880_0000) return sign | roundToEven(Math.abs(FLOAT[0]!) * 2 ** 24); // below 2^-14: a multiple of 2^-24
  return sign | roundToEven((magnitude - 0x3800_0000) / 2 ** 13);
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
