import type { RotaryTable } from "../../kv/rotary.js";
import type { ModelConfig } from "../../model/arch/config.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { dequantize } from "../../model/tensors/index.js";
import { linear, type Activations } from "./linear.js";
import { GraphWriter } from "./onnx.js";

/** Raise it with every change of what the graph computes: blocks and cached graphs of another version are not used. */
export const GRAPH_VERSION = 3;

/**
 * Writes the decoder as an ONNX graph over the tokens of up to `slots` prompts, one after the other: slot i has S_i
 * tokens in this pass, S = S_0 + S_1 + ... in all, and attends to its own N_i rows of KV.
 *
 * Inputs: `embeddings [1, S, hidden]`; `positions [1, S]`; `rows [R]`, the tokens whose logits are wanted; per slot
 * `mask.i [S_i * group, N_i]`, added to the scores, or `[1, 1]`; per layer and slot `keys.l.i`, `values.l.i`
 * `[N_i, kv_heads, head_size]`, K after the rotary embedding. Several slots have three more: `counts [slots]` = S_i,
 * per slot `from.i [1]`, `to.i [1]`, its rows of the queries, and `taken`, the rows of what the slots attended to that
 * belong to tokens. A slot without tokens is given one query and one row, and its result is not taken.
 *
 * Outputs: `logits [1, R, vocabulary]`; per layer and slot the KV of this pass, `k.l.i` (after the rotary embedding)
 * and `v.l.i`, `[1, S_i, kv_heads * head_size]`.
 *
 * The last S_i rows of `keys.l.i` and `values.l.i` are the memory that the caller gives for `k.l.i` and `v.l.i`, so the
 * pass attends to its own tokens in place and no row of the past is ever copied. The products that read the rows must
 * run after the nodes that write them: the queries are made to depend on these nodes.
 *
 * Attention is grouped: queries that share a KV head are rows of one matrix. Q's rows are ordered by their place in the
 * group first, so that this matrix, `[S * group, kv_heads, head_size]`, is the linear layer's result as it lies.
 */
export function writeDecoder(graph: GraphWriter, file: ModelFile, config: ModelConfig, table: RotaryTable, activations: Activations, slots: number): void {
  const { hidden, heads, kvHeads, headSize, layers, normEpsilon: epsilon } = config;
  const group = heads / kvHeads;
  const width = kvHeads * headSize;
  const vector = (name: string) => graph.weight(dequantize(file.tensor(name)), [hidden]);
  const headRows = (rows: number) => (config.interleavedRows ? halvesOrder(rows, headSize) : ascending(rows));
  const byGroup = Int32Array.from({ length: heads * headSize }, (_, i) => {
    const head = Math.floor(i / headSize);
    return ((head % kvHeads) * group + Math.floor(head / kvHeads)) * headSize + (i % headSize);
  });
  const queryRows = headRows(heads * headSize);

  const embeddings = graph.input("embeddings", "float32", [1, "S", hidden]);
  const positions = graph.input("positions", "int64", [1, "S"]);
  const rows = graph.input("rows", "int64", ["R"]);
  const attend = writeAttention(graph, config, slots);
  const cos = graph.weight(table.cos, [table.positions, table.half]);
  const sin = graph.weight(table.sin, [table.positions, table.half]);

  let residual = embeddings;
  let normed = graph.node("SimplifiedLayerNormalization", [embeddings, vector("blk.0.attn_norm.weight")], { axis: -1, epsilon });
  for (let layer = 0; layer < layers; layer++) {
    const tensor = (name: string) => file.tensor(`blk.${layer}.${name}.weight`);
    const bias = (name: string) => (file.has(`blk.${layer}.${name}.bias`) ? file.tensor(`blk.${layer}.${name}.bias`) : undefined);

    const qkv = linear(
      graph,
      normed,
      [
        { tensor: tensor("attn_q"), rowOrder: byGroup.map((row) => queryRows[row]!), bias: bias("attn_q") },
        { tensor: tensor("attn_k"), rowOrder: headRows(width), bias: bias("attn_k") },
        { tensor: tensor("attn_v"), bias: bias("attn_v") },
      ],
      activations,
    );
    const [qk, v] = graph.split(qkv, [heads * headSize + width, width], 2, ["", slots === 1 ? `v.${layer}.0` : ""]);
    const rotated = graph.contrib("RotaryEmbedding", [qk!, positions, cos, sin]);
    const [q, k] = graph.split(rotated, [heads * headSize, width], 2, ["", slots === 1 ? `k.${layer}.0` : ""]);
    const attended = attend(layer, q!, k!, v!);
    const projected = linear(graph, attended, [{ tensor: tensor("attn_output"), columnOrder: byGroup }], activations);

    const [afterAttention, feed] = [`after_attention.${layer}`, `feed.${layer}`] as const;
    graph.contrib("SkipSimplifiedLayerNormalization", [projected, residual, vector(`blk.${layer}.ffn_norm.weight`)], { epsilon }, [feed, "", "", afterAttention]);
    const gateUp = linear(graph, feed, [{ tensor: tensor("ffn_gate") }, { tensor: tensor("ffn_up") }], activations);
    const [gate, up] = graph.split(gateUp, [config.feedForward, config.feedForward], 2);
    const gated = graph.node("Mul", [graph.contrib("QuickGelu", [gate!], { alpha: 1 }), up!]); // QuickGelu with alpha 1 is SiLU
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

/** One layer's attention, `[1, S, heads * head_size]`, from Q, K and V of the pass. */
type Attend = (layer: number, q: string, k: string, v: string) => string;

function writeAttention(graph: GraphWriter, { heads, kvHeads, headSize }: ModelConfig, slots: number): Attend {
  const width = kvHeads * headSize;
  const slotsOf = <T>(each: (slot: number) => T): T[] => Array.from({ length: slots }, (_, slot) => each(slot));
  const masks = slotsOf((i) => graph.input(`mask.${i}`, "float32", [`Q${i}`, `M${i}`]));
  const perHead = (q: string) => graph.node("Reshape", [q, graph.integers([-1, kvHeads, headSize])]);
  const joined = (attended: string) => graph.node("Reshape", [attended, graph.integers([1, -1, heads * headSize])]);

  const attendIn = (slot: number, layer: number, queries: string): string => {
    const keys = graph.input(`keys.${layer}.${slot}`, "float32", [`N${slot}`, kvHeads, headSize]);
    const values = graph.input(`values.${layer}.${slot}`, "float32", [`N${slot}`, kvHeads, headSize]);
    const scores = graph.contrib("FusedMatMul", [queries, keys], { alpha: 1 / Math.sqrt(headSize), transB: 1, transBatchA: 1, transBatchB: 1 });
    const shares = graph.node("Softmax", [graph.node("Add", [scores, masks[slot]!])], { axis: -1 });
    const attended = graph.contrib("FusedMatMul", [shares, values], { alpha: 1, transBatchB: 1 });
    return graph.node("Transpose", [attended], { perm: [1, 0, 2] });
  };

  if (slots === 1) {
    return (layer, q, k, v) => {
      // The nodes that split Q off write K, and V before it.
      for (const name of [k, v]) graph.output(name, [1, "S", width]);
      return joined(attendIn(0, layer, perHead(q)));
    };
  }
  const counts = graph.input("counts", "int64", [slots]);
  const taken = graph.input("taken", "int64", ["X"]);
  const from = slotsOf((i) => graph.input(`from.${i}`, "int64", [1]));
  const to = slotsOf((i) => graph.input(`to.${i}`, "int64", [1]));
  const intoSlots = (name: string, layer: number, rows: string): string => {
    const names = slotsOf((i) => `${name}.${layer}.${i}`);
    graph.node("Split", [rows, counts], { axis: 1 }, names);
    names.forEach((each, i) => graph.output(each, [1, `S${i}`, width]));
    return graph.node("Shape", [names[0]!], { start: 1, end: 2 });
  };
  return (layer, q, k, v) => {
    // The axis that queries are cut along is 0, told as S_0 - S_0, so that they wait until K and V are written.
    const axis = graph.node("Sub", [intoSlots("k", layer, k), intoSlots("v", layer, v)]);
    const queries = perHead(q);
    const attended = slotsOf((i) => attendIn(i, layer, graph.node("Slice", [queries, from[i]!, to[i]!, axis])));
    return joined(graph.node("Gather", [graph.node("Concat", attended, { axis: 0 }), taken], { axis: 0 }));
  };
}

function ascending(length: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => i);
}

/** For each row of the halves order (dimension i beside i + half), the row of llama.cpp's interleaved order. */
function halvesOrder(rows: number, headSize: number): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => {
    const within = row % headSize;
    const half = headSize / 2;
    return row - within + (within % half) * 2 + Math.floor(within / half);
  });
}
