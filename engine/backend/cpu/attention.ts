import { type AttentionSpec, type LayerSpec, maskKinds } from "../../model/spec.js";
import type { GraphWriter } from "./onnx.js";
import type { TensorReader } from "./rows.js";

/**
 * One layer's attention, `[1, S, heads * head_size]`, from the pass's Q, K and V.
 * @param enlarged a factor on the scores in addition to the layer's own scale
 */
export type Attend = (layer: number, q: string, k: string, v: string, enlarged: number) => string;

/** Receives a layer's attention weights, `[kv_heads, S * group, N]`. */
export type OnShares = (layer: number, shares: string) => void;

/**
 * Columns of V that one product sums. ONNX Runtime splits a product among threads if there are more threads than products,
 * in parts of at least 16 columns, and the number of columns in a part determines the order of its sums. With 16 for all, a
 * row's sums are the same to the last bit for any number of rows and threads.
 */
const SUMMED_COLUMNS = 16;

/** Shape of V for this many rows: `[rows, kv_heads, head_size]` with each head cut into parts. */
export function valueShape<Rows>(
  rows: Rows,
  { kvHeads, headSize }: Pick<AttentionSpec, "kvHeads" | "headSize">,
): [rows: Rows, heads: number, cuts: number, columns: number] {
  const columns = headSize % SUMMED_COLUMNS === 0 ? SUMMED_COLUMNS : headSize;
  return [rows, kvHeads, headSize / columns, columns];
}

/**
 * Writes the attention to each slot's rows.
 *
 * The last S_i rows of `keys.l.i` and `values.l.i` are the memory that the caller provides for `k.l.i` and `v.l.i`, so the
 * pass attends to its own tokens in place and no row of the past is ever copied. The products that read the rows must
 * run after the nodes that write them: the queries are made to depend on these nodes.
 *
 * Attention is grouped: queries that share a KV head are rows of one matrix, `[S * group, kv_heads, head_size]`.
 */
export function writeAttention(
  graph: GraphWriter,
  tensors: TensorReader,
  layers: readonly LayerSpec[],
  slots: number,
  onShares: OnShares = () => undefined,
): Attend {
  const slotsOf = <T>(each: (slot: number) => T): T[] => Array.from({ length: slots }, (_, slot) => each(slot));
  const { kinds, ofLayer } = maskKinds(layers);
  const masks = kinds.map((_, m) => slotsOf((i) => graph.input(`mask.${m}.${i}`, "float32", [`Q${m}.${i}`, `M${m}.${i}`])));

  const perHead = (layer: number, q: string) => {
    const { kvHeads, headSize } = layers[layer]!.attention;
    return graph.node("Reshape", [q, graph.integers([-1, kvHeads, headSize])]);
  };
  const joined = (layer: number, attended: string) => {
    const { heads, headSize } = layers[layer]!.attention;
    return graph.node("Reshape", [attended, graph.integers([1, -1, heads * headSize])]);
  };

  const sinks = layers.map(({ attention }) => writeSinks(graph, tensors, attention));
  /** The softmax of scores `[kv_heads, S * group, N]`, including a sink's score if the layer has sinks. */
  const sharesOf = (layer: number, scores: string): string => {
    const sink = sinks[layer];
    if (sink === undefined) return graph.node("Softmax", [scores], { axis: -1 });
    const { heads, kvHeads } = layers[layer]!.attention;
    const tokens = graph.node("Div", [graph.node("Shape", [scores], { start: 1, end: 2 }), graph.integers([heads / kvHeads])]);
    const column = graph.node("Tile", [sink, graph.node("Concat", [graph.integers([1]), tokens, graph.integers([1])], { axis: 0 })]);
    const shares = graph.node("Softmax", [graph.node("Concat", [scores, column], { axis: 2 })], { axis: -1 });
    return graph.node("Slice", [shares, graph.integers([0]), graph.integers([-1]), graph.integers([2])]);
  };

  const attendIn = (slot: number, layer: number, queries: string, enlarged: number): string => {
    const { kvHeads, headSize, scale, softCap } = layers[layer]!.attention;
    const keys = graph.input(`keys.${layer}.${slot}`, "float32", [`N${slot}`, kvHeads, headSize]);
    const values = graph.input(`values.${layer}.${slot}`, "float32", valueShape(`N${slot}`, { kvHeads, headSize }));
    const alpha = (scale * enlarged) / (softCap ?? 1);
    const products = graph.contrib("FusedMatMul", [queries, keys], { alpha, transB: 1, transBatchA: 1, transBatchB: 1 });
    const scores = softCap === undefined ? products : graph.node("Mul", [graph.node("Tanh", [products]), graph.real(softCap)]);
    const shares = sharesOf(layer, graph.node("Add", [scores, masks[ofLayer[layer]!]![slot]!]));
    onShares(layer, shares);
    const attended = graph.contrib("FusedMatMul", [graph.node("Unsqueeze", [shares, graph.integers([1])]), values], {
      alpha: 1,
      transBatchB: 1,
    });
    return graph.node("Transpose", [attended], { perm: [2, 0, 1, 3] });
  };

  const widthOf = (layer: number) => layers[layer]!.attention.kvHeads * layers[layer]!.attention.headSize;
  if (slots === 1) {
    return (layer, q, k, v, enlarged) => {
      // The nodes that split Q off write K, and V before it.
      for (const name of [k, v]) graph.output(name, [1, "S", widthOf(layer)]);
      return joined(layer, attendIn(0, layer, perHead(layer, q), enlarged));
    };
  }
  const counts = graph.input("counts", "int64", [slots]);
  const places = kinds.map((_, m) => ({
    taken: graph.input(`taken.${m}`, "int64", [`X${m}`]),
    from: slotsOf((i) => graph.input(`from.${m}.${i}`, "int64", [1])),
    to: slotsOf((i) => graph.input(`to.${m}.${i}`, "int64", [1])),
  }));
  const intoSlots = (name: string, layer: number, rows: string): string => {
    const names = slotsOf((i) => `${name}.${layer}.${i}`);
    graph.node("Split", [rows, counts], { axis: 1 }, names);
    names.forEach((each, i) => graph.output(each, [1, `S${i}`, widthOf(layer)]));
    return graph.node("Shape", [names[0]!], { start: 1, end: 2 });
  };
  return (layer, q, k, v, enlarged) => {
    const { taken, from, to } = places[ofLayer[layer]!]!;
    // Queries are cut along axis 0, written as S_0 - S_0 so that they wait until K and V are written.
    const axis = graph.node("Sub", [intoSlots("k", layer, k), intoSlots("v", layer, v)]);
    const queries = perHead(layer, q);
    const attended = slotsOf((i) => attendIn(i, layer, graph.node("Slice", [queries, from[i]!, to[i]!, axis]), enlarged));
    return joined(layer, graph.node("Gather", [graph.node("Concat", attended, { axis: 0 }), taken], { axis: 0 }));
  };
}

/** A layer's sinks as the scores of one token's queries, `[kv_heads, group, 1]`. */
function writeSinks(graph: GraphWriter, tensors: TensorReader, { heads, kvHeads, sinks }: AttentionSpec): string | undefined {
  return sinks === undefined ? undefined : graph.weight(tensors.vector(sinks, heads), [kvHeads, heads / kvHeads, 1]);
}
