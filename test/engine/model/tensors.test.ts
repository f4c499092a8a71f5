import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesOf } from "../../../engine/model/files/layout.js";
import {
  dequantize,
  ENCODINGS,
  encodingOf,
  formOf,
  keepsGroups,
  type Ordered,
  type Packed,
  pack,
} from "../../../engine/model/tensors/index.js";
import { randomTensor } from "../../support/engine/random-tensor.js";

type Golden = { readonly made_by: string; readonly types: Record<string, { readonly bytes: string; readonly values: string }> };
const golden = JSON.parse(readFileSync("test/golden/tensors.json", "utf8")) as Golden;

const names = Object.keys(ENCODINGS) as (keyof typeof ENCODINGS)[];
const packable = names.filter((name) => ENCODINGS[name].kind === "codes");

describe("tensor types", () => {
  test.each(names)("%s has the block size that the file reader assumes", (type) => {
    expect(ENCODINGS[type].bytes).toBe(bytesOf(type, ENCODINGS[type].elements));
  });

  test("are those in the golden file, and F32", () => {
    expect(names.filter((name) => name !== "F32").sort()).toEqual(Object.keys(golden.types).sort());
  });

  test.each(Object.entries(golden.types))("%s has llama.cpp's values, bit for bit", (type, { bytes, values }) => {
    const expected = new Float32Array(new Uint8Array(Buffer.from(values, "base64")).buffer);
    const tensor = { name: "t", type: type as "F32", shape: [expected.length], bytes: new Uint8Array(Buffer.from(bytes, "base64")) };
    expect(dequantize(tensor).map(positiveZero)).toEqual(expected.map(positiveZero));
  });

  test.each(["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_S", "IQ3_S", "TQ1_0", "TQ2_0", "NVFP4", "constructor"])(
    "%s is refused, and the error names it",
    (type) => {
      expect(() => encodingOf({ name: "blk.0.ffn_up.weight", type })).toThrow(
        `Tensor blk.0.ffn_up.weight has type ${type}; kvsplice supports F32, F16,`,
      );
    },
  );
});

describe("a packed matrix", () => {
  const sizes = fc.record({ rows: fc.integer({ min: 1, max: 9 }), blocks: fc.integer({ min: 1, max: 3 }), seed: fc.integer() });

  test.each(packable)("of %s has the file's weights, in the requested order", (type) => {
    fc.assert(
      fc.property(sizes, fc.infiniteStream(fc.nat()), ({ rows, blocks, seed }, random) => {
        const columns = blocks * ENCODINGS[type].elements;
        const form = formOf(randomTensor(type, rows, columns, seed));
        if (form.kind !== "packed") throw new Error("not packed");
        // One product needs one form: a few random minima may be multiples of their scales, and the next tensor's not.
        fc.pre(isDeepStrictEqual(form, formOf(randomTensor(type, rows, columns, seed + 1))));
        const rowOrder = shuffled(rows, random);
        const columnOrder = shuffled(columns / form.group, random).flatMap((group) =>
          ascending(form.group).map((i) => group * form.group + i),
        );
        const parts: Ordered[] = [
          {
            tensor: randomTensor(type, rows, columns, seed),
            rowOrder: Int32Array.from(rowOrder),
            columnOrder: Int32Array.from(columnOrder),
          },
          { tensor: randomTensor(type, rows, columns, seed + 1) },
        ];
        const weights = unpack(pack(form, parts));
        let [worst, roundings] = [0, 0]; // in units of the last place
        parts.forEach(({ tensor }, part) => {
          const values = dequantize(tensor);
          for (let row = 0; row < rows; row++) {
            for (let column = 0; column < columns; column++) {
              const source = part === 0 ? rowOrder[row]! * columns + columnOrder[column]! : row * columns + column;
              const { value, magnitude } = weights((part * rows + row) * columns + column);
              const units = Math.abs(value - values[source]!) / (magnitude * 2 ** -23 || 1);
              worst = Math.max(worst, units);
              if (units > 0) roundings++;
            }
          }
        });
        expect(worst).toBeLessThanOrEqual(1);
        if (form.offset === "none") expect(roundings).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test("has zero points if all minima of a Q4_1 are integer multiples of its scales, and minima otherwise", () => {
    const tensor = randomTensor("Q4_1", 4, 64, 1);
    const halves = new DataView(tensor.bytes.buffer);
    for (let block = 0; block < 8; block++) {
      halves.setUint16(block * 20, 0x2c00, true); // 1 / 16
      halves.setUint16(block * 20 + 2, 0xb600, true); // -6 / 16
    }
    expect(formOf(tensor)).toEqual({ kind: "packed", bits: 4, group: 32, offset: "zero points" });
    const packed = pack(formOf(tensor) as Packed, [{ tensor }]);
    expect(packed.zeroPoints).toEqual(new Uint8Array(4).fill(0x66));
    halves.setUint16(7 * 20 + 2, 0xb601, true);
    expect(formOf(tensor)).toMatchObject({ offset: "zero points" }); // as -6 / 16 may be rounded
    halves.setUint16(7 * 20 + 2, 0xb620, true);
    expect(formOf(tensor)).toMatchObject({ offset: "minima" });
    halves.setUint16(7 * 20, 0, true); // nothing to be a multiple of
    expect(formOf(tensor)).toMatchObject({ offset: "minima" });
  });

  test("follows column orders that move whole groups", () => {
    const swapped = Int32Array.from([...ascending(16).map((i) => i + 16), ...ascending(16)]);
    expect(keepsGroups(swapped, 16)).toBe(true);
    expect(keepsGroups(swapped, 32)).toBe(false);
  });
});

/** Reads a packed matrix like MatMulNBits: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
function unpack({ bits, group, rows, columns, data, scales, zeroPoints, minima }: Packed) {
  const groups = columns / group;
  return (index: number) => {
    const code = bits === 8 ? data[index]! : (data[index >> 1]! >> ((index & 1) * 4)) & 15;
    const [row, at] = [Math.floor(index / columns), Math.floor((index % columns) / group)];
    const zero = zeroPoints ? (zeroPoints[row * Math.ceil(groups / 2) + (at >> 1)]! >> ((at & 1) * 4)) & 15 : 2 ** (bits - 1);
    const scale = scales[row * groups + at]!;
    const minimum = minima ? minima[at * rows + row]! : 0;
    return { value: scale * (code - zero) + minimum, magnitude: Math.abs(scale) * 2 ** bits + Math.abs(minimum) };
  };
}

/** -0 and 0 are one weight. */
const positiveZero = (value: number) => value + 0;

const ascending = (length: number) => Array.from({ length }, (_, i) => i);

function shuffled(length: number, random: fc.Stream<number>): number[] {
  const keys = [...random.take(length)];
  return ascending(length).sort((a, b) => keys[a]! - keys[b]! || a - b);
}
