import type { Activations } from "./activations.js";
import { linear, type Weight } from "./linear.js";
import type { NumberType } from "./number-type.js";
import type { GraphWriter } from "./onnx.js";

/** Values `[1, tokens, columns]`, and by which power of two they are multiplied. */
export type ScaledValues = { readonly values: string; readonly scale: number };

/**
 * A weight, by which power of two its rows of the result are to be multiplied (1 if omitted), and which row of the file's tensor its first
 * one is, before they are put in order.
 */
export type ScaledWeight = Weight & { readonly scale?: number; readonly from: number };

/**
 * Writes one linear layer `[1, tokens, columns] -> [1, tokens, rows]`; several weights over the same input become one, with the rows of
 * all in order. Input and result are of the arithmetic's type.
 */
export type Multiply = (graph: GraphWriter, input: ScaledValues, weights: readonly ScaledWeight[], arithmetic: Arithmetic) => string;

/**
 * By which powers of two the numbers that layers pass on are multiplied, so that all of them are within float16's range; weights and norms
 * take that back.
 */
export type Scales = {
  /** Of the residual stream, and of the results of branches that are added to it without a norm. */
  readonly residual: number;
  /** Of what norms before linear layers return. */
  readonly normed: number;
  /** Of what attention returns. */
  readonly attended: number;
  /** Of the feed-forward's inner product. */
  readonly inner: number;
};

/**
 * How a decoder computes. What layers pass on to each other is of `type`, except within attention, which is always float32: scores of
 * some models are too large for float16.
 */
export type Arithmetic = { readonly type: NumberType; readonly scales: Scales; readonly multiply: Multiply };

/** Exactly the weights of the file, in float32, with the input of products rounded as `activations` says. */
export function exactly(activations: Activations): Arithmetic {
  return {
    type: "float32",
    scales: { residual: 1, normed: 1, attended: 1, inner: 1 },
    multiply: (graph, input, weights) => linear(graph, input.values, weights, activations),
  };
}
