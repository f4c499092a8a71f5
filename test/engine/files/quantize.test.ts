import fc from "fast-check";
import { expect, test } from "vitest";
import { halfToFloat } from "../../../engine/model/tensors/half.js";
import { dequantize } from "../../../engine/model/tensors/index.js";
import { floatToHalf, quantize } from "../../../engine/model/tensors/quantize.js";

test("a half precision number is written as it was read, and any other as the nearest half", () => {
  for (let bits = 0; bits < 0x7c00; bits++) {
    const [value, next] = [halfToFloat(bits), bits + 1 < 0x7c00 ? halfToFloat(bits + 1) : 65_536];
    expect(floatToHalf(value)).toBe(bits);
    expect(floatToHalf(-value)).toBe(bits | 0x8000);
    const middle = (value + next) / 2;
    expect(floatToHalf(middle)).toBe(bits % 2 === 0 ? bits : bits + 1);
    expect(floatToHalf(value + (next - value) * 0.49)).toBe(bits);
    expect(floatToHalf(value + (next - value) * 0.51)).toBe(bits + 1);
  }
  expect(floatToHalf(Infinity)).toBe(0x7c00);
});

const group = fc.float32Array({ minLength: 32, maxLength: 32, min: -100, max: 100, noNaN: true });

test.each([
  ["Q8_0", 127, 0.5],
  ["Q4_0", 8, 1],
] as const)("%s is off by less than one step plus the scale's rounding", (type, steps, off) => {
  fc.assert(
    fc.property(group, (values) => {
      const read = dequantize({ name: "x", type, shape: [1, 32], bytes: quantize(values, type) });
      const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const rounding = largest * 2 ** -10 + 2 ** -24 * steps;
      for (const [i, value] of read.entries()) expect(Math.abs(value - values[i]!)).toBeLessThanOrEqual((off * largest) / steps + rounding);
    }),
  );
});

test.each(["Q8_0", "Q4_0"] as const)("quantising dequantised %s values changes nothing", (type) => {
  fc.assert(
    fc.property(group, (values) => {
      const once = dequantize({ name: "x", type, shape: [1, 32], bytes: quantize(values, type) });
      const twice = dequantize({ name: "x", type, shape: [1, 32], bytes: quantize(once, type) });
      const largest = once.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      for (const [i, value] of twice.entries()) expect(Math.abs(value - once[i]!)).toBeLessThanOrEqual(largest * 2 ** -9 + 2 ** -20);
    }),
  );
});
