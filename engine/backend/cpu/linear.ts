import { isDeepStrictEqual } from "node:util";
import type { RawTensor } from "../../model/files/model-file.js";
import { dequantize, type Form, formOf, keepsGroups, type Ordered, type PackedForm, pack } from "../../model/tensors/index.js";
import type { Activations } from "./activations.js";
import type { GraphWriter } from "./onnx.js";

/** MatMulNBits' `accuracy_level`: 4 multiplies in int8, 0 in float32. */
const ACCURACY_LEVEL: Record<Activations, number> = { int8: 4, float32: 0 };

/** A weight `[rows, columns]`, in the graph's order. */
export type Weight = Ordered & {
  /** `[rows]`, in the file's order. */
  readonly bias?: RawTensor | undefined;
};

/**
 * One linear layer `[1, tokens, columns] -> [1, tokens, rows]`; several weights over the same input become one, with the
 * rows of all in order. Their tensor types may differ: adjacent weights of the same form become one product.
 */
export function linear(graph: GraphWriter, input: string, weights: readonly Weight[], activations: Activations): string {
  const source = new Source(graph, input);
  const products: string[] = [];
  for (const { form, parts } of runsOfOneForm(weights)) {
    if (form.kind === "float") products.push(floatProduct(graph, source, parts));
    else if (parts.every(({ columnOrder }) => !columnOrder || keepsGroups(columnOrder, form.group)))
      products.push(packedProduct(graph, source, form, parts, activations));
    else {
      // Codes of one group stay together: if the order would separate them, the input is put into the file's order instead.
      for (const { columnOrder, ...part } of parts)
        products.push(packedProduct(graph, source.before(columnOrder), form, [part], activations));
    }
  }
  const joined = products.length === 1 ? products[0]! : graph.node("Concat", products, { axis: 2 });
  const biases = biasesOf(weights);
  return biases ? graph.node("Add", [joined, graph.weight(biases, [biases.length])]) : joined;
}

type Run = { readonly form: Form; readonly parts: Weight[] };

function runsOfOneForm(weights: readonly Weight[]): readonly Run[] {
  const runs: Run[] = [];
  for (const weight of weights) {
    const form = formOf(weight.tensor);
    const last = runs.at(-1);
    if (last && isDeepStrictEqual(last.form, form)) last.parts.push(weight);
    else runs.push({ form, parts: [weight] });
  }
  return runs;
}

/** A layer's input `[1, tokens, columns]`, and values derived from it at most once. */
class Source {
  private readonly sums = new Map<number, string>();

  constructor(
    private readonly graph: GraphWriter,
    readonly input: string,
  ) {}

  /** The sum of each group's activations, `[1, tokens, columns / group]`. */
  groupSums(columns: number, group: number): string {
    let sums = this.sums.get(group);
    if (!sums) {
      const grouped = this.graph.node("Reshape", [this.input, this.graph.integers([1, -1, columns / group, group])]);
      sums = this.graph.node("ReduceSum", [grouped, this.graph.integers([3])], { keepdims: 0 });
      this.sums.set(group, sums);
    }
    return sums;
  }

  /** The input for a weight whose columns are not in this order; it is moved in the longest runs that the order allows. */
  before(order: Int32Array | undefined): Source {
    if (!order) return this;
    let run = order.length;
    while (!keepsGroups(order, run))
      do run--;
      while (order.length % run !== 0);
    const runs = order.length / run;
    const apart = this.graph.node("Reshape", [this.input, this.graph.integers([1, -1, runs, run])]);
    const from = new Array<number>(runs);
    for (let i = 0; i < runs; i++) from[order[i * run]! / run] = i;
    const moved = this.graph.node("Gather", [apart, this.graph.integers(from)], { axis: 2 });
    return new Source(this.graph, this.graph.node("Reshape", [moved, this.graph.integers([1, -1, order.length])]));
  }
}

/** `[rows]` of all weights; undefined if none has a bias. */
export function biasesOf(weights: readonly Weight[]): Float32Array | undefined {
  return weights.some(({ bias }) => bias) ? joinFloat(weights.map(biasOf)) : undefined;
}

function biasOf({ tensor, rowOrder, bias }: Weight): Float32Array {
  if (!bias) return new Float32Array(tensor.shape[0]!);
  const values = dequantize(bias);
  return rowOrder ? Float32Array.from(rowOrder, (row) => values[row]!) : values;
}

function packedProduct(graph: GraphWriter, source: Source, form: PackedForm, parts: readonly Weight[], activations: Activations): string {
  const { bits, group, offset } = form;
  const [rows, columns] = [rowsOf(parts), parts[0]!.tensor.shape[1]!];
  const groups = columns / group;
  const infos = [
    { type: "uint8", dims: [rows, groups, (group * bits) / 8] },
    { type: "float32", dims: [rows * groups] },
    ...(offset === "zero points" ? [{ type: "uint8", dims: [rows * Math.ceil(groups / 2)] } as const] : []),
    ...(offset === "minima" ? [{ type: "float32", dims: [groups, rows] } as const] : []),
  ] as const;
  const names = graph.weights(infos, () => {
    const { data, scales, zeroPoints, minima } = pack(form, parts);
    return [data, scales, zeroPoints ?? minima].filter((values) => values !== undefined);
  });
  const minima = offset === "minima" ? names.pop() : undefined;
  const attributes = { K: columns, N: rows, bits, block_size: group, accuracy_level: ACCURACY_LEVEL[activations] };
  const product = graph.contrib("MatMulNBits", [source.input, ...names], attributes);
  return minima === undefined ? product : graph.node("Add", [product, graph.node("MatMul", [source.groupSums(columns, group), minima])]);
}

function floatProduct(graph: GraphWriter, source: Source, parts: readonly Weight[]): string {
  const [rows, columns] = [rowsOf(parts), parts[0]!.tensor.shape[1]!];
  const [weight] = graph.weights([{ type: "float32", dims: [columns, rows] }], () => [transposed(parts, rows, columns)]);
  return graph.node("MatMul", [source.input, weight!]);
}

/** The values of weights stacked below each other, transposed: `[columns, rows]`. */
export function transposed(parts: readonly Weight[], rows: number, columns: number): Float32Array {
  const out = new Float32Array(columns * rows);
  let at = 0;
  for (const { tensor, rowOrder, columnOrder } of parts) {
    const values = dequantize(tensor);
    for (let row = 0; row < tensor.shape[0]!; row++, at++) {
      const source = (rowOrder ? rowOrder[row]! : row) * columns;
      for (let column = 0; column < columns; column++)
        out[column * rows + at] = values[source + (columnOrder ? columnOrder[column]! : column)]!;
    }
  }
  return out;
}

function rowsOf(parts: readonly Weight[]): number {
  return parts.reduce((sum, { tensor }) => sum + tensor.shape[0]!, 0);
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
