import { type AttentionSpec, type LayerSpec, maskKinds } from "../../model/spec.js";
import type { Attend } from "../cpu/attention.js";
import type { GraphWriter } from "../cpu/onnx.js";

/** GroupQueryAttention takes only heads of a multiple of this. */
const FUSED_MULTIPLE = 8;

/** Whether every token sees all rows before it in every layer, and the fused kernel computes that: there, no mask is needed. */
export function needsNoMask(layers: readonly LayerSpec[]): boolean {
  return layers.every((layer) => layer.attention.window === undefined && isFused(layer));
}

/** On devices the fused kernel ignores soft-caps. */
function isFused({ attention: { headSize, softCap } }: LayerSpec): boolean {
  return softCap === undefined && headSize % FUSED_MULTIPLE === 0;
}

/**
 * Writes the attention of one prompt whose KV is in buffers with room for C rows: inputs `keys.l`, `values.l`
 * `[1, kv_heads, C, head_size]`, K after the rotary embedding. `total [1]` of their rows count, including those of the
 * pass; `last [1]` is the last of them. The outputs `k.l`, `v.l` must be the same buffers: the pass's rows are written to their
 * places, and no other row is moved.
 *
 * If masked, `mask.m [1, 1, S, total]` is added to the scores of the layers of kind m; otherwise each token sees all rows before
 * it. Layers without a fused kernel also need `written [1, 1, S, 1]`, the pass's rows, and `all [1]`, which is `total`.
 */
export function writePromptAttention({ masked }: { readonly masked: boolean }) {
  return (graph: GraphWriter, layers: readonly LayerSpec[]): Attend => {
    const [last, total] = [graph.input("last", "int32", [1]), graph.input("total", "int32", [1])];
    const { kinds, ofLayer } = maskKinds(layers);
    const masks = masked ? kinds.map((_, m) => graph.input(`mask.${m}`, "float32", [1, 1, "S", "N"])) : undefined;
    const apart = masks && !layers.every(isFused) ? writeApart(graph, layers) : undefined;

    return (layer, q, k, v, enlarged) => {
      const { heads, kvHeads, headSize, scale } = layers[layer]!.attention;
      const shape = [1, kvHeads, "C", headSize];
      const [keys, values] = [graph.input(`keys.${layer}`, "float32", shape), graph.input(`values.${layer}`, "float32", shape)];
      for (const name of ["k", "v"]) graph.output(`${name}.${layer}`, shape);
      const mask = masks?.[ofLayer[layer]!];
      if (apart && !isFused(layers[layer]!)) return apart(layer, q, { k, v, keys, values }, mask!, enlarged);
      const [result] = graph.fresh(1) as [string];
      return graph.contrib(
        "GroupQueryAttention",
        [q, k, v, keys, values, last, total, ...(mask === undefined ? [] : ["", "", "", mask])],
        { num_heads: heads, kv_num_heads: kvHeads, scale: scale * enlarged },
        [result, `k.${layer}`, `v.${layer}`],
      );
    };
  };
}

/** A layer's K and V of the pass, and the buffers of all rows. */
type LayerKv = { readonly k: string; readonly v: string; readonly keys: string; readonly values: string };

/** Attention as products and a softmax. */
function writeApart(graph: GraphWriter, layers: readonly LayerSpec[]) {
  const [rows, all] = [graph.input("written", "int32", [1, 1, "S", 1]), graph.input("all", "int64", [1])];
  const used = (buffer: string) => graph.node("Slice", [buffer, graph.integers([0]), all, graph.integers([2])]);

  return (layer: number, q: string, { k, v, keys, values }: LayerKv, mask: string, enlarged: number): string => {
    const { heads, kvHeads, headSize, scale, softCap } = layers[layer]!.attention;
    const group = heads / kvHeads;
    const write = writeRows(graph, rows, { kvHeads, headSize });
    const byHead = (rows: string) =>
      graph.node("Transpose", [graph.node("Reshape", [rows, graph.integers([1, -1, kvHeads, headSize])])], { perm: [0, 2, 1, 3] });
    const scaled = graph.node("Mul", [q, graph.real((scale * enlarged) / (softCap ?? 1))]);
    const grouped = graph.node("Reshape", [scaled, graph.integers([-1, kvHeads, group, headSize])]);
    // Queries that share a KV head are rows of one matrix, `[1, kv_heads, group * S, head_size]`.
    const queries = graph.node("Reshape", [
      graph.node("Transpose", [grouped], { perm: [1, 2, 0, 3] }),
      graph.integers([1, kvHeads, -1, headSize]),
    ]);
    const allKeys = used(write(byHead(k), keys, `k.${layer}`));
    const products = graph.node("MatMul", [queries, graph.node("Transpose", [allKeys], { perm: [0, 1, 3, 2] })]);
    const capped = softCap === undefined ? products : graph.node("Mul", [graph.node("Tanh", [products]), graph.real(softCap)]);
    // `[kv_heads, group, S, N]`, so that the mask applies to all heads.
    const perToken = graph.node("Concat", [graph.integers([kvHeads, group, -1]), all], { axis: 0 });
    const shares = graph.node("Softmax", [graph.node("Add", [graph.node("Reshape", [capped, perToken]), mask])], { axis: -1 });
    const perHead = graph.node("Concat", [graph.integers([1, kvHeads, -1]), all], { axis: 0 });
    const allValues = used(write(byHead(v), values, `v.${layer}`));
    const attended = graph.node("MatMul", [graph.node("Reshape", [shares, perHead]), allValues]);
    const apart = graph.node("Reshape", [attended, graph.integers([kvHeads, group, -1, headSize])]);
    return graph.node("Reshape", [graph.node("Transpose", [apart], { perm: [2, 0, 1, 3] }), graph.integers([1, -1, heads * headSize])]);
  };
}

/**
 * Writes rows `[1, heads, T, head_size]` into a buffer `[1, heads, C, head_size]`, in place if the output is the same buffer:
 * token i into row `rows [1, 1, T, 1]` i. Rows beyond the buffer are left out.
 */
export function writeRows(graph: GraphWriter, rows: string, { kvHeads, headSize }: Pick<AttentionSpec, "kvHeads" | "headSize">) {
  return (values: string, buffer: string, output: string): string => {
    const places = graph.node("Expand", [rows, graph.integers([1, kvHeads, 1, headSize])]);
    return graph.node("ScatterElements", [buffer, places, values], { axis: 2 }, [output]);
  };
}
