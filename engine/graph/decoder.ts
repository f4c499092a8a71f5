import type { RotaryTable } from "../kv/rotary.js";
import type { ModelConfig } from "../weights/config.js";
import type { GgufFile, RawTensor } from "../weights/gguf.js";
import { dequantize } from "../weights/quant.js";
import { linear, type Activations } from "./linear.js";
import { GraphWriter } from "./onnx.js";

/** Raise it with every change of what the graph computes: blocks and cached graphs of another version are not used. */
export const GRAPH_VERSION = 1;

/**
 * Writes the decoder as an ONNX graph.
 *
 * Inputs: `embeddings [1, S, hidden]`; `positions [1, S]`; `mask [group * S, T + S]`, added to the scores;
 * `parts [2]` = T, S; `rows [R]`, the tokens whose logits are wanted; per layer `past_k.i`, `past_v.i`
 * `[T, kv_heads, head_size]`, K after the rotary embedding. T may be 0.
 *
 * Outputs: `logits [1, R, vocabulary]`; per layer, over the pass's tokens, `[1, S, kv_heads * head_size]`: `k.i` after
 * the rotary embedding, `raw_k.i` before it, `v.i`.
 *
 * Attention is grouped: queries that share a KV head are rows of one matrix, `[kv_heads, group * S, head_size]`. Its
 * scores against the past and against the pass itself are two products under one softmax, so that the past is read
 * where it lies and never copied.
 */
export function writeDecoder(graph: GraphWriter, file: GgufFile, config: ModelConfig, table: RotaryTable, activations: Activations): void {
  const { hidden, heads, kvHeads, headSize, layers, normEpsilon: epsilon } = config;
  const group = heads / kvHeads;
  const width = kvHeads * headSize;
  const vector = (name: string) => graph.weight(dequantize(file.tensor(name)), [hidden]);
  const optional = (name: string): RawTensor | undefined => (file.has(name) ? file.tensor(name) : undefined);
  const headRows = (tensor: RawTensor) => (config.interleavedRows ? { tensor, order: halvesOrder(tensor.shape[0]!, headSize) } : { tensor });

  const embeddings = graph.input("embeddings", "float32", [1, "S", hidden]);
  const positions = graph.input("positions", "int64", [1, "S"]);
  const mask = graph.input("mask", "float32", ["G", "N"]);
  const parts = graph.input("parts", "int64", [2]);
  const rows = graph.input("rows", "int64", ["R"]);
  const cos = graph.weight(table.cos, [table.positions, table.half]);
  const sin = graph.weight(table.sin, [table.positions, table.half]);
  const scale = 1 / Math.sqrt(headSize);

  let residual = embeddings;
  let normed = graph.node("SimplifiedLayerNormalization", [embeddings, vector("blk.0.attn_norm.weight")], { axis: -1, epsilon });
  for (let layer = 0; layer < layers; layer++) {
    const tensor = (name: string) => file.tensor(`blk.${layer}.${name}.weight`);
    const bias = (name: string) => optional(`blk.${layer}.${name}.bias`);
    const pastK = graph.input(`past_k.${layer}`, "float32", ["T", kvHeads, headSize]);
    const pastV = graph.input(`past_v.${layer}`, "float32", ["T", kvHeads, headSize]);

    const qkv = linear(graph, normed, [headRows(tensor("attn_q")), headRows(tensor("attn_k")), { tensor: tensor("attn_v") }], activations, [
      bias("attn_q"),
      bias("attn_k"),
      bias("attn_v"),
    ]);
    const [q, rawK, v, k] = [`q.${layer}`, `raw_k.${layer}`, `v.${layer}`, `k.${layer}`] as const;
    graph.node("Split", [qkv, graph.integers([heads * headSize, width, width])], { axis: 2 }, [q, rawK, v]);
    graph.contrib("RotaryEmbedding", [rawK, positions, cos, sin], {}, [k]);
    for (const name of [k, rawK, v]) graph.output(name, [1, "S", width]);

    const rotatedQ = graph.contrib("RotaryEmbedding", [q, positions, cos, sin]);
    const byToken = graph.node("Reshape", [rotatedQ, graph.integers([-1, kvHeads, group, headSize])]);
    const byHead = graph.node("Transpose", [byToken], { perm: [1, 2, 0, 3] });
    const query = graph.node("Reshape", [byHead, graph.integers([kvHeads, -1, headSize])]);
    const perHead = graph.integers([-1, kvHeads, headSize]);
    const nowK = graph.node("Reshape", [k, perHead]);
    const nowV = graph.node("Reshape", [v, perHead]);
    const score = (keys: string) => graph.contrib("FusedMatMul", [query, keys], { alpha: scale, transB: 1, transBatchB: 1 });
    const scores = graph.node("Concat", [score(pastK), score(nowK)], { axis: 2 });
    const shares = graph.node("Softmax", [graph.node("Add", [scores, mask])], { axis: -1 });
    const [pastShare, nowShare] = [`past_share.${layer}`, `now_share.${layer}`] as const;
    graph.node("Split", [shares, parts], { axis: 2 }, [pastShare, nowShare]);
    const weigh = (share: string, values: string) => graph.contrib("FusedMatMul", [share, values], { alpha: 1, transBatchB: 1 });
    const attended = graph.node("Add", [weigh(pastShare, pastV), weigh(nowShare, nowV)]);
    const headsApart = graph.node("Reshape", [attended, graph.integers([kvHeads, group, -1, headSize])]);
    const tokensApart = graph.node("Transpose", [headsApart], { perm: [2, 0, 1, 3] });
    const attention = graph.node("Reshape", [tokensApart, graph.integers([1, -1, heads * headSize])]);
    const projected = linear(graph, attention, [{ tensor: tensor("attn_output") }], activations);

    const [afterAttention, feed] = [`after_attention.${layer}`, `feed.${layer}`] as const;
    graph.contrib("SkipSimplifiedLayerNormalization", [projected, residual, vector(`blk.${layer}.ffn_norm.weight`)], { epsilon }, [feed, "", "", afterAttention]);
    const gateUp = linear(graph, feed, [{ tensor: tensor("ffn_gate") }, { tensor: tensor("ffn_up") }], activations);
    const [gate, up] = [`gate.${layer}`, `up.${layer}`] as const;
    graph.node("Split", [gateUp, graph.integers([config.feedForward, config.feedForward])], { axis: 2 }, [gate, up]);
    const gated = graph.node("Mul", [graph.contrib("QuickGelu", [gate], { alpha: 1 }), up]); // QuickGelu with alpha 1 is SiLU
    const down = linear(graph, gated, [{ tensor: tensor("ffn_down") }], activations);

    const next = layer + 1 < layers ? `blk.${layer + 1}.attn_norm.weight` : "output_norm.weight";
    const [sum, norm] = [`residual.${layer}`, `normed.${layer}`] as const;
    graph.contrib("SkipSimplifiedLayerNormalization", [down, afterAttention, vector(next)], { epsilon }, [norm, "", "", sum]);
    residual = sum;
    normed = norm;
  }
  const wanted = graph.node("Gather", [normed, rows], { axis: 1 });
  const head = file.tensor(config.tiedEmbedding ? "token_embd.weight" : "output.weight");
  const logits = linear(graph, wanted, [{ tensor: head }], activations);
  graph.node("Identity", [logits], {}, ["logits"]);
  graph.output("logits", [1, "R", config.vocabulary]);
}

/** For each row of the halves order (dimension i beside i + half), the row of llama.cpp's interleaved order. */
function halvesOrder(rows: number, headSize: number): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => {
    const within = row % headSize;
    const half = headSize / 2;
    return row - within + (within % half) * 2 + Math.floor(within / half);
  });
}
