import { type LayerSpec, maskKinds } from "../../model/spec.js";
import type { Attend } from "../cpu/attention.js";
import type { Purpose } from "../cpu/decoder.js";
import type { GraphWriter } from "../cpu/onnx.js";
import { writePacking } from "./packing.js";

/** The attention of a batch of blocks, whose KV the device also packs as blocks store it in 8 bits. */
export function writeBatch(): Pick<Extract<Purpose, { kind: "batch" }>, "attention" | "ends"> {
  let pack: () => void;
  return {
    attention: (graph, layers) => {
      pack = () => writePacking(graph, layers);
      return writeBatchAttention(graph, layers);
    },
    ends: () => pack(),
  };
}

/**
 * Writes the attention of a batch of blocks: the pass has `dims [2]` = blocks, tokens per block, one block after the other,
 * and each token sees the tokens of its own block that `mask.m [blocks or 1, 1, 1, tokens, tokens]` allows.
 *
 * It uses products and a softmax, not a fused kernel: soft-caps and windows need no other graph, and for blocks of a few hundred tokens
 * attention is a small part of the work.
 */
function writeBatchAttention(graph: GraphWriter, layers: readonly LayerSpec[]): Attend {
  const dims = graph.input("dims", "int64", [2]);
  const { kinds, ofLayer } = maskKinds(layers);
  const masks = kinds.map((_, m) => graph.input(`mask.${m}`, "float32", [`B${m}`, 1, 1, "L", "L"]));
  const apart = (values: string, sizes: readonly number[]) =>
    graph.node("Reshape", [values, graph.node("Concat", [dims, graph.integers(sizes)], { axis: 0 })]);
  const [blocks, tokens] = graph.split(dims, [1, 1], 0) as [string, string];

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
    const capped = softCap === undefined ? products : graph.node("Mul", [graph.node("Tanh", [products]), graph.real(softCap)]);
    const perHead = graph.node("Concat", [blocks, graph.integers([kvHeads, group]), tokens, tokens], { axis: 0 });
    const scores = graph.node("Add", [graph.node("Reshape", [capped, perHead]), masks[ofLayer[layer]!]!]);
    const together = graph.node("Concat", [blocks, graph.integers([kvHeads, -1]), tokens], { axis: 0 });
    const shares = graph.node("Reshape", [graph.node("Softmax", [scores], { axis: -1 }), together]);
    const attended = graph.node("MatMul", [shares, values]);
    const ofHeads = graph.node("Reshape", [attended, graph.integers([0, 0, group, -1, headSize])]);
    return graph.node("Reshape", [
      graph.node("Transpose", [ofHeads], { perm: [0, 3, 1, 2, 4] }),
      graph.integers([1, -1, heads * headSize]),
    ]);
  };
}
