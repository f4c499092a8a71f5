import { biasesOf, transposed, type Weight } from "./linear.js";
import type { GraphWriter } from "./onnx.js";

/**
 * Linear layers in 8 bits on both sides (W8A8): a weight has one scale per row, a token's activations one scale, and
 * sums are exact integers. Processors multiply several times faster this way than with a scale for each block of weights.
 *
 * The few channels with a layer's largest activations would degrade the others' scale: they are multiplied separately, in
 * float32 (LLM.int8, Dettmers et al. 2022). They are determined on `CALIBRATION_TEXT` when the graphs are built.
 */

/** Channels of a layer's input that are multiplied in float32. */
const OUTLIERS = 16;

/** Maximum columns that share a token's scale: a wide layer becomes several products side by side. */
const SCALED_COLUMNS = 1600;

/** The largest magnitude of a rounded value. */
const LARGEST = 127;

/** Activations are rounded to unsigned bytes around this. */
const ZERO_POINT = 128;

/** If all of a token's activations are 0, any scale will do. */
const LEAST_MAGNITUDE = 1e-12;

/**
 * One linear layer `[1, tokens, columns] -> [1, tokens, rows]`; several weights over the same input become one, with the rows
 * of all in order.
 * @param magnitudes the largest magnitude of each channel of the input, `[columns]`
 */
export function roundedLinear(graph: GraphWriter, input: string, weights: readonly Weight[], magnitudes: Float32Array): string {
  const rows = weights.reduce((sum, { tensor }) => sum + tensor.shape[0]!, 0);
  const columns = magnitudes.length;
  const outliers = largestChannels(magnitudes, Math.min(OUTLIERS, columns));
  const parts = partsOf(columns);
  const width = columns / parts;
  const part = [
    { type: "int8", dims: [width, rows] },
    { type: "float32", dims: [rows] },
  ] as const;
  const names = graph.weights(
    [...Array.from({ length: parts }, () => part).flat(), { type: "float32", dims: [outliers.length, rows] }],
    () => {
      const values = transposed(weights, rows, columns);
      const apart = new Float32Array(outliers.length * rows);
      outliers.forEach((channel, i) => {
        const row = values.subarray(channel * rows, (channel + 1) * rows);
        apart.set(row, i * rows);
        row.fill(0);
      });
      const rounded = Array.from({ length: parts }, (_, i) =>
        roundColumns(values.subarray(i * width * rows, (i + 1) * width * rows), rows),
      );
      return [...rounded.flatMap(({ codes, scales }) => [codes, scales]), apart];
    },
  );

  const kept = new Float32Array(columns).fill(1);
  for (const channel of outliers) kept[channel] = 0;
  const rest = graph.node("Mul", [input, graph.weight(kept, [columns])]);
  const pieces = parts === 1 ? [rest] : graph.split(rest, new Array<number>(parts).fill(width), 2);
  const products = pieces.map((piece, i) => roundedProduct(graph, piece, names[2 * i]!, names[2 * i + 1]!));
  const ofOutliers = graph.node("MatMul", [graph.node("Gather", [input, graph.integers([...outliers])], { axis: 2 }), names.at(-1)!]);
  const sum = graph.node("Sum", [...products, ofOutliers]);
  const biases = biasesOf(weights);
  return biases ? graph.node("Add", [sum, graph.weight(biases, [biases.length])]) : sum;
}

/** The channels with the largest magnitudes, in order. */
function largestChannels(magnitudes: Float32Array, count: number): Int32Array {
  return Int32Array.from(magnitudes.keys())
    .sort((a, b) => magnitudes[b]! - magnitudes[a]! || a - b)
    .subarray(0, count)
    .sort();
}

function roundedProduct(graph: GraphWriter, input: string, codes: string, scales: string): string {
  const most = graph.node("ReduceMax", [graph.node("Abs", [input]), graph.integers([2])], { keepdims: 1 });
  const scale = graph.node("Mul", [graph.node("Max", [most, graph.real(LEAST_MAGNITUDE)]), graph.real(1 / LARGEST)]);
  const [one, zero] = [graph.real(1), graph.byte(ZERO_POINT)];
  const rounded = graph.node("QuantizeLinear", [graph.node("Mul", [input, graph.node("Reciprocal", [scale])]), one, zero]);
  return graph.node("Mul", [graph.contrib("MatMulIntegerToFloat", [rounded, codes, one, scales, zero]), scale]);
}

/** Number of parts of equal width that this many columns are cut into. */
function partsOf(columns: number): number {
  let parts = Math.ceil(columns / SCALED_COLUMNS);
  while (columns % parts !== 0) parts++;
  return parts;
}

/** `[columns, rows]` as integers, with a scale for each row of the weight. */
function roundColumns(values: Float32Array, rows: number): { readonly codes: Int8Array; readonly scales: Float32Array } {
  const scales = new Float32Array(rows);
  for (let at = 0; at < values.length; at += rows)
    for (let row = 0; row < rows; row++) scales[row] = Math.max(scales[row]!, Math.abs(values[at + row]!));
  for (let row = 0; row < rows; row++) scales[row] = scales[row]! / LARGEST || 1;
  const codes = new Int8Array(values.length);
  for (let at = 0; at < values.length; at += rows)
    for (let row = 0; row < rows; row++) codes[at + row] = Math.round(values[at + row]! / scales[row]!);
  return { codes, scales };
}

/** A graph that shows whether this processor's sums are exact: some processors multiply bytes in 16 bits, which overflow. */
export function writeTrial(graph: GraphWriter): void {
  const input = graph.input("input", "float32", [1, "S", TRIAL_COLUMNS]);
  const [codes, scales] = [new Int8Array(TRIAL_COLUMNS * TRIAL_ROWS).fill(LARGEST), new Float32Array(TRIAL_ROWS).fill(1)];
  const product = roundedProduct(graph, input, graph.weight(codes, [TRIAL_COLUMNS, TRIAL_ROWS]), graph.weight(scales, [TRIAL_ROWS]));
  graph.node("Identity", [product], {}, ["output"]);
  graph.output("output", [1, "S", TRIAL_ROWS]);
}

export const TRIAL_COLUMNS = 256;
const TRIAL_ROWS = 16;
/** Each value of the input. */
export const TRIAL_INPUT = LARGEST;
/** Each value of the output. */
export const TRIAL_RESULT = TRIAL_COLUMNS * LARGEST * LARGEST;
