/** Float value of IEEE 754 half precision bits. */
export function halfToFloat(bits: number): number {
  return VALUES[bits]!;
}

const VALUES = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const magnitude =
    exponent === 0 ? mantissa * 2 ** -24 : exponent === 31 ? (mantissa ? NaN : Infinity) : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
});

/** The half precision number at byte `at`, little-endian. */
export function readHalf(bytes: Uint8Array, at: number): number {
  return VALUES[bytes[at]! | (bytes[at + 1]! << 8)]!;
}
