import type { ModelFile } from "../../model/files/model-file.js";
import {
  type AttentionSpec,
  type FeedForwardSpec,
  type LayerSpec,
  type LinearSpec,
  type ModelSpec,
  maskKinds,
  watchedLayers,
} from "../../model/spec.js";
import { floatToHalf } from "../../model/tensors/quantize.js";
import type { Activations } from "./activations.js";
import { type Arithmetic, exactly, type ScaledValues, type ScaledWeight } from "./arithmetic.js";
import { type Attend, type OnShares, writeAttention } from "./attention.js";
import { expertsOf, gated } from "./experts.js";
import type { GraphWriter } from "./onnx.js";
import { queriesByGroup, rowsOf, TensorReader } from "./rows.js";
import { roundedLinear } from "./w8a8.js";

/**
 * What a graph is for: answers of up to `slots` prompts at once, what a prompt attends to, passes with an adapter, measuring
 * the inputs of linear layers, encoding blocks in 8 bits with these magnitudes, or, with separate attention, encoding several
 * blocks in one pass or answering over KV that is somewhere else.
 */
export type Purpose =
  | { readonly kind: "answer"; readonly slots: number }
  | { readonly kind: "look" }
  | { readonly kind: "adapted" }
  | { readonly kind: "magnitudes" }
  | { readonly kind: "encode"; readonly adapted: boolean; readonly magnitudes: Magnitudes }
  | { readonly kind: "batch"; readonly arithmetic: Arithmetic; readonly attention: WriteAttention; readonly ends: () => void }
  /** With `ends`, which writes its output, the graph ends with the last layer's attention. */
  | {
      readonly kind: "remote";
      readonly arithmetic: Arithmetic;
      readonly attention: WriteAttention;
      readonly ends?: (() => void) | undefined;
    };

type WriteAttention = (graph: GraphWriter, layers: readonly LayerSpec[]) => Attend;

/** The largest magnitude of each channel of the input of a linear layer, `[columns]`, by `magnitudesName`. */
export type Magnitudes = ReadonlyMap<string, Float32Array>;

/** The linear layers of a layer: weights over the same input form one. */
export const PRODUCTS = ["qkv", "output", "gateUp", "down"] as const;
export type Product = (typeof PRODUCTS)[number];

/** Name of an output of the graph that measures magnitudes. */
export function magnitudesName(layer: number, product: Product): string {
  return `magnitudes.${layer}.${product}`;
}

/** Those that an adapter may act on and that are rounded, which excludes experts. */
export function adaptable({ feedForward }: LayerSpec): readonly Product[] {
  return feedForward.kind === "dense" ? PRODUCTS : ["qkv", "output"];
}

/**
 * Writes the decoder as an ONNX graph over the tokens of up to `slots` prompts, one after the other: slot i has S_i
 * tokens in this pass, S = S_0 + S_1 + ... in all, and attends to its own N_i rows of KV.
 *
 * Inputs: `embeddings [1, S, hidden]`; per kind of rotary embedding `cos.r`, `sin.r` `[S, dimensions / 2]`, for the
 * tokens' positions; `rows [R]`, the tokens whose logits are wanted; per kind of mask and slot `mask.m.i`
 * `[S_i * group, N_i]`, added to the scores, or `[1, 1]`; per layer and slot `keys.l.i`, `values.l.i`
 * `[N_i, kv_heads, head_size]`, K after the rotary embedding, V with each head cut (`valueShape`). With several slots
 * there are also: `counts [slots]` = S_i, per kind of mask and slot `from.m.i [1]`, `to.m.i [1]`, its rows of the
 * queries, and per kind of mask `taken.m`, the rows of the slots' results that belong to tokens. A slot without tokens
 * gets one query and one row, and its result is discarded.
 *
 * Outputs: `logits [1, R, vocabulary]`; per layer and slot the KV of this pass, `k.l.i` (after the rotary embedding)
 * and `v.l.i`, `[1, S_i, kv_heads * head_size]`.
 *
 * A graph that looks has one slot and no head. Its input `asks [1, S * group]` weighs the tokens, and its output
 * `looks [N]` is how much attention they pay to each row, summed over the heads of the watched layers
 * (`watchedLayers`).
 *
 * A graph that measures has one slot and no head. Its outputs `magnitudes.l.p [columns]` are the largest magnitude of each
 * channel of the input of product p of layer l (`PRODUCTS`), over the tokens.
 *
 * A graph that encodes has one slot and no head, and rounds the linear layers (`roundedLinear`), except experts.
 *
 * A graph that encodes a batch has one slot and no head. Its tokens are those of several blocks, which `attention` keeps
 * apart, and `k.l.0` is K before the rotary embedding.
 *
 * A remote graph has one slot, whose KV is inputs and outputs of `attention`. There and in a batch, the heads of queries are in
 * the file's order.
 *
 * An adapted graph has one slot, and a low-rank adapter on each linear layer except experts (LoRA, Hu et al. 2021): inputs
 * `a.l.p [columns, rank]` and `b.l.p [rank, rows]` for the products p of layer l (`PRODUCTS`).
 */
export function writeDecoder(graph: GraphWriter, file: ModelFile, spec: ModelSpec, activations: Activations, purpose: Purpose): void {
  const slots = purpose.kind === "answer" ? purpose.slots : 1;
  const { hidden, layers } = spec;
  const tensors = new TensorReader(file);
  const arithmetic = "arithmetic" in purpose ? purpose.arithmetic : exactly(activations);
  const ofType = (values: string) => (arithmetic.type === "float32" ? values : graph.cast(values, arithmetic.type));
  const toFloat = (values: string) => (arithmetic.type === "float32" ? values : graph.cast(values, "float32"));
  const { scales } = arithmetic;
  const vector = (name: string, factor: number) => {
    const values = tensors.vector(name, hidden).map((value) => value * factor);
    return graph.weight(arithmetic.type === "float32" ? values : Uint16Array.from(values, floatToHalf), [hidden]);
  };
  // Norms of the residual stream see it scaled.
  const epsilon = spec.normEpsilon * scales.residual ** 2;
  const times = (values: string, factor: number) => (factor === 1 ? values : graph.node("Mul", [values, graph.real(factor)]));

  const embeddings = graph.input("embeddings", "float32", [1, "S", hidden]);
  const rotate = writeRotaries(graph, spec);
  const looks = purpose.kind === "look" ? new LooksWriter(graph, layers) : undefined;
  const attend = "attention" in purpose ? purpose.attention(graph, layers) : writeAttention(graph, tensors, layers, slots, looks?.add);

  let residual = ofType(times(embeddings, spec.embedding.scale * scales.residual));
  const first = layers[0]!.attention.before;
  let input =
    first === undefined
      ? residual
      : graph.node("SimplifiedLayerNormalization", [residual, vector(first, scales.normed)], { axis: -1, epsilon });
  /** Adds a branch's result to the residual stream, and computes the next branch's input from it. */
  const join = (branch: string, { after, scale, next }: { after: string | undefined; scale: number; next: string | undefined }) => {
    const own =
      after === undefined
        ? branch
        : graph.node("SimplifiedLayerNormalization", [branch, vector(after, scales.residual)], { axis: -1, epsilon: spec.normEpsilon });
    const result = scale === 1 ? own : graph.node("Mul", [own, ofType(graph.real(scale))]);
    if (next === undefined) {
      residual = input = graph.node("Add", [result, residual]);
      return;
    }
    const [normed, sum] = graph.fresh(2) as [string, string];
    graph.contrib("SkipSimplifiedLayerNormalization", [result, residual, vector(next, scales.normed)], { epsilon }, [normed, "", "", sum]);
    [residual, input] = [sum, normed];
  };

  const write: LayerWriter = {
    graph,
    tensors,
    spec,
    slots,
    activations,
    product: productWriter(graph, arithmetic, purpose),
    arithmetic,
    ofType,
    toFloat,
    unturned: purpose.kind === "batch",
    grouped: !("attention" in purpose),
  };
  for (const [i, layer] of layers.entries()) {
    const { attention, feedForward, residualScale } = layer;
    const inputOf = (before: string | undefined) => ({ values: input, scale: before === undefined ? scales.residual : scales.normed });
    const attended = attentionOf(write, i, layer, inputOf(attention.before), rotate, attend);
    if (looks && i + 1 === layers.length) return looks.output();
    if ("ends" in purpose && purpose.ends && i + 1 === layers.length) {
      if (arithmetic.type === "float16") writeSound(graph, residual);
      return purpose.ends();
    }
    if (purpose.kind === "encode" && i + 1 === layers.length) return; // its keys and values have been computed
    join(attended, { after: attention.after, scale: residualScale, next: feedForward.before });
    const next = i + 1 < layers.length ? layers[i + 1]!.attention.before : spec.norm;
    join(feedForwardOf(write, i, feedForward, inputOf(feedForward.before)), { after: feedForward.after, scale: residualScale, next });
  }

  if (purpose.kind === "magnitudes") return;
  if (arithmetic.type === "float16") writeSound(graph, residual);

  const rows = graph.input("rows", "int64", ["R"]);
  const wanted = graph.node("Gather", [input, rows], { axis: 1 });
  const headInput = { values: wanted, scale: scales.normed };
  const head = toFloat(arithmetic.multiply(graph, headInput, [tensors.weight(spec.head.weight, spec.vocabulary, hidden)], arithmetic));
  graph.node("Identity", [softCapped(graph, times(head, spec.head.scale), spec.head.softCap)], {}, ["logits"]);
  graph.output("logits", [1, "R", spec.vocabulary]);
}

type LayerWriter = {
  readonly graph: GraphWriter;
  readonly tensors: TensorReader;
  readonly spec: ModelSpec;
  readonly slots: number;
  readonly activations: Activations;
  readonly product: ProductWriter;
  readonly arithmetic: Arithmetic;
  /** Float32 values in the arithmetic's type, and back. */
  readonly ofType: (values: string) => string;
  readonly toFloat: (values: string) => string;
  /** Whether keys are put out as they are before the rotary embedding. */
  readonly unturned: boolean;
  /** Whether queries are ordered by their place in their group (`queriesByGroup`). */
  readonly grouped: boolean;
};

/** One linear layer over several weights, which is product p of a layer. */
type ProductWriter = (layer: number, product: Product, input: ScaledValues, weights: readonly ScaledWeight[]) => string;

function productWriter(graph: GraphWriter, arithmetic: Arithmetic, purpose: Purpose): ProductWriter {
  const multiply: ProductWriter = (layer, product, input, weights) => {
    if (purpose.kind === "encode")
      return roundedLinear(graph, input.values, weights, purpose.magnitudes.get(magnitudesName(layer, product))!);
    if (purpose.kind === "magnitudes") writeMagnitudes(graph, input.values, magnitudesName(layer, product), weights[0]!.tensor.shape[1]!);
    return arithmetic.multiply(graph, input, weights, arithmetic);
  };
  if (purpose.kind !== "adapted" && !(purpose.kind === "encode" && purpose.adapted)) return multiply;
  return (layer, product, input, weights) => {
    const result = multiply(layer, product, input, weights);
    const columns = weights[0]!.tensor.shape[1]!;
    const rows = weights.reduce((sum, { tensor }) => sum + tensor.shape[0]!, 0);
    const a = graph.input(`a.${layer}.${product}`, "float32", [columns, `R${layer}.${product}`]);
    const b = graph.input(`b.${layer}.${product}`, "float32", [`R${layer}.${product}`, rows]);
    return graph.node("Add", [result, graph.node("MatMul", [graph.node("MatMul", [input.values, a]), b])]);
  };
}

function writeMagnitudes(graph: GraphWriter, input: string, output: string, columns: number): void {
  graph.node("ReduceMax", [graph.node("Abs", [input]), graph.integers([0, 1])], { keepdims: 0 }, [output]);
  graph.output(output, [columns]);
}

/** The output `SOUND [1, S, 1]`: 1 if all of a token's numbers so far were small enough for float16, and 0 if not. */
function writeSound(graph: GraphWriter, residual: string): void {
  // Whatever a layer does with infinite numbers, they or NaN remain in the residual stream.
  const isFinite = graph.node("Less", [graph.node("Abs", [residual]), graph.cast(graph.real(LARGEST_HALF), "float16")]);
  graph.node("ReduceMin", [graph.cast(isFinite, "float32"), graph.integers([2])], { keepdims: 1 }, [SOUND]);
  graph.output(SOUND, [1, "S", 1]);
}

/** Name of the output that says whether a device's results can be used. */
export const SOUND = "sound";

const LARGEST_HALF = 65504;

/** Sums how much attention the asking tokens pay to each row. */
class LooksWriter {
  private readonly watched: ReadonlySet<number>;
  private readonly kindOf: readonly number[];
  private readonly asks: readonly string[];
  private readonly sums: string[] = [];

  constructor(
    private readonly graph: GraphWriter,
    layers: readonly LayerSpec[],
  ) {
    const { kinds, ofLayer } = maskKinds(layers);
    this.kindOf = ofLayer;
    this.watched = new Set(watchedLayers(layers));
    this.asks = kinds.map((_, m) => graph.input(`asks.${m}`, "float32", [1, `Q${m}.0`]));
  }

  readonly add: OnShares = (layer, shares) => {
    if (!this.watched.has(layer)) return;
    const weighed = this.graph.node("MatMul", [this.asks[this.kindOf[layer]!]!, shares]);
    this.sums.push(this.graph.node("ReduceSum", [weighed, this.graph.integers([0, 1])], { keepdims: 0 }));
  };

  output(): void {
    this.graph.node("Sum", this.sums, {}, ["looks"]);
    this.graph.output("looks", ["N0"]);
  }
}

/** Rotates queries and keys stored head by head, `[1, S, heads * head_size]`. */
type Rotate = (kind: number, values: string, heads: number, headSize: number) => string;

function writeRotaries(graph: GraphWriter, { rotaries }: ModelSpec): Rotate {
  const tables = rotaries.map(({ dimensions }, r) => [
    graph.input(`cos.${r}`, "float32", ["S", dimensions / 2]),
    graph.input(`sin.${r}`, "float32", ["S", dimensions / 2]),
  ]);
  return (kind, values, heads, headSize) => {
    const { dimensions } = rotaries[kind]!;
    const part = dimensions === headSize ? {} : { num_heads: heads, rotary_embedding_dim: dimensions };
    // The tables' rows are those of the pass's tokens: the first token's is row 0.
    return graph.contrib("RotaryEmbedding", [values, graph.integers([0]), ...tables[kind]!], part);
  };
}

function attentionOf(
  { graph, tensors, spec, slots, product, arithmetic, ofType, toFloat, unturned, grouped }: LayerWriter,
  index: number,
  layer: LayerSpec,
  input: ScaledValues,
  rotate: Rotate,
  attend: Attend,
): string {
  const { attention } = layer;
  const { heads, kvHeads, headSize, query, key, value, output } = attention;
  const { hidden } = spec;
  const [queries, width] = [heads * headSize, kvHeads * headSize];
  const rotary = attention.rotary === undefined ? undefined : spec.rotaries[attention.rotary]!;
  const byGroup = grouped ? queriesByGroup(attention) : undefined;
  const queryRows = rowsOf(query.pairs, queries, headSize, rotary?.dimensions);
  const queryOrder = byGroup?.map((row) => queryRows[row]!) ?? queryRows;
  const keyOrder = rowsOf(key.pairs, width, headSize, rotary?.dimensions);
  const projected = product(index, "qkv", input, [
    { ...tensors.weight(query, queries, hidden), rowOrder: queryOrder },
    { ...tensors.weight(key, width, hidden), rowOrder: keyOrder },
    tensors.weight(value, width, hidden),
  ]);
  const qkv = toFloat(projected);
  const single = slots === 1;
  const names = { k: single ? `k.${index}.0` : "", v: single ? `v.${index}.0` : "" };
  const normed = attention.queryNorm !== undefined || attention.keyNorm !== undefined;
  const [q, k, v] = (() => {
    if (attention.rotary === undefined && !normed) return graph.split(qkv, [queries, width, width], 2, ["", names.k, names.v]);
    const [qk, v] = graph.split(qkv, [queries + width, width], 2, ["", names.v]);
    const own = normed ? normedHeads({ graph, tensors, spec }, attention, qk!, queryOrder, keyOrder) : qk!;
    const turned = attention.rotary === undefined ? own : rotate(attention.rotary, own, heads + kvHeads, headSize);
    if (!unturned) return [...graph.split(turned, [queries, width], 2, ["", names.k]), v!];
    const range = [queries, queries + width, 2].map((value) => graph.integers([value]));
    graph.node("Slice", [own, ...range], {}, [names.k]);
    return [...graph.split(turned, [queries, width], 2), v!];
  })() as [string, string, string];
  if (unturned) for (const name of [names.k, names.v]) graph.output(name, [1, "S", width]);
  const attended = attend(
    index,
    partlyEnlarged(graph, q, attention, rotary),
    k,
    v,
    rotary?.dimensions === headSize ? rotary.magnitude ** 2 : 1,
  );
  const { scales } = arithmetic;
  const scaled = scales.attended === 1 ? attended : graph.node("Mul", [attended, graph.real(scales.attended)]);
  const weight = {
    ...tensors.weight(output, hidden, queries),
    columnOrder: byGroup,
    scale: attention.after === undefined ? scales.residual : 1,
  };
  return product(index, "output", { values: ofType(scaled), scale: scales.attended }, [weight]);
}

/** If a rotary embedding rotates only part of each head, its magnitude applies only to that part. */
function partlyEnlarged(
  graph: GraphWriter,
  q: string,
  { heads, headSize }: AttentionSpec,
  rotary: ModelSpec["rotaries"][number] | undefined,
): string {
  if (!rotary || rotary.magnitude === 1 || rotary.dimensions === headSize) return q;
  const factors = Float32Array.from({ length: heads * headSize }, (_, i) => (i % headSize < rotary.dimensions ? rotary.magnitude ** 2 : 1));
  return graph.node("Mul", [q, graph.weight(factors, [factors.length])]);
}

/** Queries and keys `[1, S, (heads + kv_heads) * head_size]` after their RMS norms. */
function normedHeads(
  { graph, tensors, spec }: Pick<LayerWriter, "graph" | "tensors" | "spec">,
  { heads, kvHeads, headSize, queryNorm, keyNorm }: AttentionSpec,
  qk: string,
  queryOrder: Int32Array,
  keyOrder: Int32Array,
): string {
  const parts = graph.split(qk, [heads * headSize, kvHeads * headSize], 2);
  const normed = [
    { values: parts[0]!, norm: queryNorm, count: heads, order: queryOrder },
    { values: parts[1]!, norm: keyNorm, count: kvHeads, order: keyOrder },
  ].map(({ values, norm, count, order }) => {
    if (!norm) return values;
    const length = norm.over === "head" ? headSize : count * headSize;
    const weight = tensors.vector(norm.tensor, length);
    // All heads have the same order of rows.
    const ordered = Float32Array.from({ length }, (_, i) => weight[norm.over === "head" ? order[i]! % headSize : order[i]!]!);
    const rows = norm.over === "head" ? graph.node("Reshape", [values, graph.integers([1, -1, headSize])]) : values;
    const result = graph.node("SimplifiedLayerNormalization", [rows, graph.weight(ordered, [length])], {
      axis: -1,
      epsilon: spec.normEpsilon,
    });
    return norm.over === "head" ? graph.node("Reshape", [result, graph.integers([1, -1, count * headSize])]) : result;
  });
  return graph.node("Concat", normed, { axis: 2 });
}

function feedForwardOf(
  { graph, tensors, spec, product, activations, arithmetic: { scales } }: LayerWriter,
  index: number,
  feedForward: FeedForwardSpec,
  input: ScaledValues,
): string {
  switch (feedForward.kind) {
    case "dense": {
      const { width, activation, gate, up, down } = feedForward;
      const wide = (weight: LinearSpec, scale: number) => ({ ...tensors.weight(weight, width, spec.hidden), scale });
      const gateUp = product(index, "gateUp", input, [wide(gate, 1), wide(up, scales.inner)]);
      const weight = { ...tensors.weight(down, spec.hidden, width), scale: feedForward.after === undefined ? scales.residual : 1 };
      return product(index, "down", { values: gated(graph, gateUp, width, activation), scale: scales.inner }, [weight]);
    }
    case "experts":
      return expertsOf(graph, tensors, feedForward, spec.hidden, activations, input.values);
  }
}

/** c * tanh(values / c) */
function softCapped(graph: GraphWriter, values: string, cap: number | undefined): string {
  if (cap === undefined) return values;
  return graph.node("Mul", [graph.node("Tanh", [graph.node("Mul", [values, graph.real(1 / cap)])]), graph.real(cap)]);
}
