import fc from "fast-check";
import { expect, test } from "vitest";
import type { RawTensor } from "../../../engine/model/files/model-file.js";
import { BYTE_GROUP, dequantize, packBytes } from "../../../engine/model/tensors/index.js";
import { quantize } from "../../../engine/model/tensors/quantize.js";

const COLUMNS = 2 * BYTE_GROUP;

function tensorOf(values: Float32Array, type: "F32" | "Q8_0" | "Q4_0"): RawTensor {
  const bytes = type === "F32" ? new Uint8Array(values.buffer) : quantize(values, type);
  return { name: "weight", type, shape: [values.length / COLUMNS, COLUMNS], bytes };
}

/** The weights that the packed form stands for. */
function unpacked({ data, scales, zeros }: ReturnType<typeof packBytes>): Float32Array {
  const values = Float32Array.from(data, (code, i) => scales[Math.floor(i / BYTE_GROUP)]! * (code - zeros[Math.floor(i / BYTE_GROUP)]!));
  return values.map(unsigned);
}

/** 0 for -0. */
const unsigned = (value: number) => value + 0;

const weights = fc
  .array(fc.float({ min: -4, max: 4, noNaN: true }), { minLength: COLUMNS, maxLength: 3 * COLUMNS })
  .map((values) => Float32Array.from(values.slice(0, values.length - (values.length % COLUMNS))));

test.each(["Q8_0", "Q4_0"] as const)("weights of %s, which has codes around 0 in groups of 32, are kept as they are", (type) => {
  fc.assert(
    fc.property(weights, (values) => {
      const tensor = tensorOf(values, type);
      expect(unpacked(packBytes([{ tensor }]))).toEqual(dequantize(tensor).map(unsigned));
    }),
  );
});

test("other weights are rounded to a 255th of their group's range, and 0 stays 0", () => {
  fc.assert(
    fc.property(weights, (values) => {
      const found = unpacked(packBytes([{ tensor: tensorOf(values, "F32") }]));
      for (let from = 0; from < values.length; from += BYTE_GROUP) {
        const group = values.subarray(from, from + BYTE_GROUP);
        const step = (Math.max(0, ...group) - Math.min(0, ...group)) / 255;
        group.forEach((value, i) => expect(Math.abs(found[from + i]! - value)).toBeLessThanOrEqual(1.001 * step + 1e-7));
        group.forEach((value, i) => value === 0 && expect(found[from + i]).toBe(0));
      }
    }),
  );
});

test("rows of several matrices are stacked, each in its own order", () => {
  const [one, two] = [1, 2].map((start) => Float32Array.from({ length: 2 * COLUMNS }, (_, i) => Math.sin(start + i)));
  const rowOrder = Int32Array.of(1, 0);
  const both = unpacked(packBytes([{ tensor: tensorOf(one!, "Q8_0"), rowOrder }, { tensor: tensorOf(two!, "Q8_0") }]));
  const row = (values: Float32Array, at: number) => [...dequantize(tensorOf(values, "Q8_0")).subarray(at * COLUMNS, (at + 1) * COLUMNS)];
  expect([...both]).toEqual([row(one!, 1), row(one!, 0), row(two!, 0), row(two!, 1)].flat());
});
