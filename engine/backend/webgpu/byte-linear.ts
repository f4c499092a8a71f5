import type { Adapter } from "../../model/adapter/index.js";
import { BYTE_GROUP, packBytes } from "../../model/tensors/index.js";
import { floatToHalf } from "../../model/tensors/quantize.js";
import type { Multiply } from "../cpu/arithmetic.js";
import { biasesOf, transposed } from "../cpu/linear.js";
import { mergedWith } from "./merged.js";

/** MatMulNBits' `accuracy_level`: the input may be rounded to 8 bits. */
const IN_8_BITS = 4;

/**
 * One linear layer as a device computes it fastest: all weights over the same input in 8 bits (`packBytes`), and with their biases one
 * operator, which rounds the input to 8 bits if there are many tokens. Layers whose columns are not a multiple of 32 are multiplied as
 * they are, without adapters.
 */
export const byteLinear =
  (adapters: readonly Adapter[]): Multiply =>
  (graph, { values, scale }, weights, { type }) => {
    const columns = weights[0]!.tensor.shape[1]!;
    const rows = weights.reduce((sum, { tensor }) => sum + tensor.shape[0]!, 0);
    const scaleOfRow = weights.flatMap((weight) => new Array<number>(weight.tensor.shape[0]!).fill(weight.scale ?? 1));
    const ofType = (numbers: Float32Array) => (type === "float32" ? numbers : Uint16Array.from(numbers, floatToHalf));
    const own = biasesOf(weights);
    const bias = own && graph.weight(ofType(own.map((value, row) => value * scaleOfRow[row]!)), [rows]);
    if (columns % BYTE_GROUP !== 0) {
      const [weight] = graph.weights([{ type, dims: [columns, rows] }], () => [
        ofType(transposed(weights, rows, columns).map((value, i) => (value * scaleOfRow[i % rows]!) / scale)),
      ]);
      const product = graph.node("MatMul", [values, weight!]);
      return bias === undefined ? product : graph.node("Add", [product, bias]);
    }
    const groups = columns / BYTE_GROUP;
    const infos = [
      { type: "uint8", dims: [rows, groups, BYTE_GROUP] },
      { type, dims: [rows * groups] },
      { type: "uint8", dims: [rows * groups] },
    ] as const;
    const names = graph.weights(infos, () => {
      const { data, scales, zeros } = packBytes(weights.map((weight) => ({ ...weight, change: mergedWith(adapters, weight) })));
      return [data, ofType(scales.map((value, i) => (value * scaleOfRow[Math.floor(i / groups)]!) / scale)), zeros];
    });
    const attributes = { K: columns, N: rows, bits: 8, block_size: BYTE_GROUP, accuracy_level: IN_8_BITS };
    return graph.contrib("MatMulNBits", [values, ...names, ...(bias === undefined ? [] : ["", bias])], attributes);
  };
