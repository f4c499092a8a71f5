import type { RawTensor } from "../../model/files/model-file.js";
import { BLOCK_SIZE, dequantize, repack, type QuantizedMatrix } from "../../model/tensors/quant.js";
import type { GraphWriter } from "./onnx.js";

/** How activations enter the linear layers: quantised to 8 bits on the way (fast), or as they are (exact). */
export type Activations = "int8" | "float32";

export const ACTIVATIONS: readonly Activations[] = ["int8", "float32"];

export const DEFAULT_ACTIVATIONS: Activations = "int8";

/** MatMulNBits' `accuracy_level`: 4 multiplies in int8, 0 in float32. */
const ACCURACY_LEVEL: Record<Activations, number> = { int8: 4, float32: 0 };

/** A weight, its rows and columns in the order that the graph wants them; the file's order when left out. */
export type Weight = {
  readonly tensor: RawTensor;
  /** Source row of each row, of each bias too. */
  readonly rowOrder?: Int32Array;
  readonly columnOrder?: Int32Array;
  readonly bias?: RawTensor | undefined;
};

/** One linear layer `[1, tokens, columns] -> [1, tokens, rows]`; several weights over the same input become one. */
export function linear(graph: GraphWriter, input: string, weights: readonly Weight[], activations: Activations): string {
  const packed = weights.map(({ tensor, rowOrder, columnOrder }) => repack(tensor, rowOrder, columnOrder));
  const bits = packed[0]?.bits;
  const product =
    bits && packed.every((matrix) => matrix?.bits === bits)
      ? quantizedProduct(graph, input, packed as QuantizedMatrix[], ACCURACY_LEVEL[activations])
      : floatProduct(graph, input, weights);
  if (!weights.some(({ bias }) => bias)) return product;
  const bias = joinFloat(weights.map(biasOf));
  return graph.node("Add", [product, graph.weight(bias, [bias.length])]);
}

function biasOf({ tensor, rowOrder, bias }: Weight): Float32Array {
  if (!bias) return new Float32Array(tensor.shape[0]!);
  const values = dequantize(bias);
  return rowOrder ? Float32Array.from(rowOrder, (row) => values[row]!) : values;
}

function quantizedProduct(graph: GraphWriter, input: string, parts: readonly QuantizedMatrix[], accuracyLevel: number): string {
  const { bits, columns } = parts[0]!;
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const blocks = columns / BLOCK_SIZE;
  const weights = [
    graph.weight(joinBytes(parts.map((part) => part.data)), [rows, blocks, (BLOCK_SIZE * bits) / 8]),
    graph.weight(joinFloat(parts.map((part) => part.scales)), [rows * blocks]),
    graph.weight(joinBytes(parts.map((part) => part.zeroPoints)), [rows * Math.ceil((blocks * bits) / 8)]),
  ];
  return graph.contrib("MatMulNBits", [input, ...weights], { K: columns, N: rows, bits, block_size: BLOCK_SIZE, accuracy_level: accuracyLevel });
}

function floatProduct(graph: GraphWriter, input: string, parts: readonly Weight[]): string {
  const columns = parts[0]!.tensor.shape[1]!;
  const rows = parts.reduce((sum, { tensor }) => sum + tensor.shape[0]!, 0);
  const transposed = new Float32Array(columns * rows);
  let at = 0;
  for (const { tensor, rowOrder, columnOrder } of parts) {
    const values = dequantize(tensor);
    for (let row = 0; row < tensor.shape[0]!; row++, at++) {
      const source = (rowOrder ? rowOrder[row]! : row) * columns;
      for (let column = 0; column < columns; column++) transposed[column * rows + at] = values[source + (columnOrder ? columnOrder[column]! : column)]!;
    }
  }
  return graph.node("MatMul", [input, graph.weight(transposed, [columns, rows])]);
}

function joinFloat(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
