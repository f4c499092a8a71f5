import { type LayerSpec, maskKinds } from "../../model/spec.js";
import type { Attend } from "../cpu/attention.js";
import type { GraphWriter } from "../cpu/onnx.js";

/**
 * Writes the attention of a batch of blocks: the pass has `dims [2]` = blocks, tokens per block, one block after the other,
 * and each token sees the tokens of its own block that `mask.m [blocks or 1, 1, tokens * group, tokens]` allows.
 *
 * It uses products and a softmax, not a fused kernel: soft-caps and windows need no other graph, and for blocks of a few hundred tokens
 * attention is a small part of the work.
 */
export function writeBatchAttention(graph: GraphWriter, layers: readonly LayerSpec[]): Attend {
  const dims = graph.input("dims", "int64", [2]);
  const { kinds, ofLayer } = maskKinds(layers);
  const masks = kinds.map((_, m) => graph.input(`mask.${m}`, "float32", [`B${m}`, 1, `Q${m}`, "L"]));
  const apart = (values: string, sizes: readonly number[]) =>
    graph.node("Reshape", [values, graph.node("Concat", [dims, graph.integers(sizes)], { axis: 0 })]);

  return (layer, q, k, v, enlarged) => {
    const { heads, kvHeads, headSize, scale, softCap } = layers[layer]!.attention;
    const group = heads / kvHeads;
    const factor = (scale * enlarged) / (softCap ?? 1);
    const byHead = graph.node("Transpose", [apart(graph.node("Mul", [q, graph.real(factor)]), [kvHeads, group, headSize])], {
      perm: [0, 2, 3, 1, 4],
    });
    // Queries that share a KV head are rows of one matrix, `[blocks, kv_heads, group * tokens, head_size]`.
    const queries = graph.node("Reshape", [byHead, graph.integers([0, 0, -1, headSize])]);
    const keys = graph.node("Transpose", [apart(k, [kvHeads, headSize])], { perm: [0, 2, 3, 1] });
    const values = graph.node("Transpose", [apart(v, [kvHeads, headSize])], { perm: [0, 2, 1, 3] });
    const products = graph.node("MatMul", [queries, keys]);
    const scores = softCap === undefined ? products : graph.node("Mul", [graph.node("Tanh", [products]), graph.real(softCap)]);
    const shares = graph.node("Softmax", [graph.node("Add", [scores, masks[ofLayer[layer]!]!])], { axis: -1 });
    const attended = graph.node("MatMul", [shares, values]);
    const perHead = graph.node("Reshape", [attended, graph.integers([0, 0, group, -1, headSize])]);
    return graph.node("Reshape", [
      graph.node("Transpose", [perHead], { perm: [0, 3, 1, 2, 4] }),
      graph.integers([1, -1, heads * headSize]),
    ]);
  };
}
