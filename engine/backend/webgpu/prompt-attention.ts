import { type AttentionSpec, type LayerSpec, maskKinds, watchedLayers } from "../../model/spec.js";
import type { Attend, OnShares } from "../cpu/attention.js";
import type { Purpose } from "../cpu/decoder.js";
import type { GraphWriter } from "../cpu/onnx.js";

/** GroupQueryAttention takes only heads of a multiple of this. */
const FUSED_MULTIPLE = 8;

/**
 * Whether every token sees all rows before it in every layer, and the fused kernel computes that: there, no mask is needed.
 * @param fused whether the device has that kernel
 */
export function needsNoMask(layers: readonly LayerSpec[], fused: boolean): boolean {
  return fused && layers.every((layer) => layer.attention.window === undefined && isFused(layer));
}

/** On devices the fused kernel ignores soft-caps. */
function isFused({ attention: { headSize, softCap } }: LayerSpec): boolean {
  return softCap === undefined && headSize % FUSED_MULTIPLE === 0;
}

/** Prompts in a pass over several. */
export const PROMPT_SLOTS = 4;

/** Name of the output for a buffer that is also an input: both must be the same buffer. */
export function written(buffer: string): string {
  return `${buffer}.written`;
}

/** Number of prompts, whether there is a mask, and whether the device has the fused kernel. */
export type PromptAttention = { readonly slots: number; readonly masked: boolean; readonly fused: boolean };

/**
 * Writes the attention of prompts whose KV is in buffers with room for C_i rows: slot i has S_i tokens in this pass, one slot
 * after the other (with several slots, `counts [slots]`), and buffers `keys.l.i`, `values.l.i` `[1, kv_heads, C_i, head_size]`, K after
 * the rotary embedding. `total.i [1]` of their rows count, including those of the pass; `last.i [1]` is the last of them. The
 * outputs (`written`) must be the same buffers: the pass's rows are written to their places, and no other row is moved.
 *
 * If masked, `mask.m.i [1, 1, S_i, total.i]` is added to the scores of the layers of kind m; otherwise each token sees all rows
 * before it. Layers without a fused kernel also need `rows.i [1, 1, S_i, 1]`, the pass's rows, and `all.i [1]`, which is `total.i`.
 */
export function writePromptAttention({ slots, masked, fused }: PromptAttention) {
  return (graph: GraphWriter, layers: readonly LayerSpec[]): Attend => {
    const each = Array.from({ length: slots }, (_, slot) => writeSlot(graph, layers, slot, { masked, fused }));
    if (slots === 1) return each[0]!;
    const counts = graph.input("counts", "int64", [slots]);
    const apart = (values: string) => {
      const parts = graph.fresh(slots);
      graph.node("Split", [values, counts], { axis: 1 }, parts);
      return parts;
    };
    return (layer, q, k, v, enlarged) => {
      const [queries, keys, values] = [apart(q), apart(k), apart(v)] as const;
      const attended = each.map((attend, slot) => attend(layer, queries[slot]!, keys[slot]!, values[slot]!, enlarged));
      return graph.node("Concat", attended, { axis: 1 });
    };
  };
}

/**
 * The attention of one prompt, masked, and how much attention its tokens pay to each row: the input `asks [1, 1, 1, S_0]` weighs the tokens,
 * and the output `looks [total.0]` is summed over the heads of the watched layers (`watchedLayers`).
 */
export function writeLooks(fused: boolean): Pick<Extract<Purpose, { kind: "remote" }>, "attention" | "ends"> {
  const sums: string[] = [];
  let written: GraphWriter;
  return {
    attention: (graph, layers) => {
      written = graph;
      const asks = graph.input("asks", "float32", [1, 1, 1, "S0"]);
      const watched = new Set(watchedLayers(layers));
      const add: OnShares = (_, shares) => {
        const weighed = graph.node("MatMul", [asks, shares]);
        sums.push(graph.node("ReduceSum", [weighed, graph.integers([0, 1, 2])], { keepdims: 0 }));
      };
      return writeSlot(graph, layers, 0, { masked: true, fused }, { watched, add });
    },
    ends: () => {
      written.node("Sum", sums, {}, ["looks"]);
      written.output("looks", ["N0"]);
    },
  };
}

/** Layers whose attention weights `[kv_heads, group, S, N]` are wanted. */
type Watch = { readonly watched: ReadonlySet<number>; readonly add: OnShares };

function writeSlot(
  graph: GraphWriter,
  layers: readonly LayerSpec[],
  slot: number,
  { masked, fused }: Omit<PromptAttention, "slots">,
  watch?: Watch,
): Attend {
  const isApart = (layer: number) => !fused || watch?.watched.has(layer) || !isFused(layers[layer]!);
  const [last, total] = [graph.input(`last.${slot}`, "int32", [1]), graph.input(`total.${slot}`, "int32", [1])];
  const { kinds, ofLayer } = maskKinds(layers);
  const masks = masked ? kinds.map((_, m) => graph.input(`mask.${m}.${slot}`, "float32", [1, 1, `S${slot}`, `N${slot}`])) : undefined;
  const apart = masks && layers.some((_, layer) => isApart(layer)) ? writeApart(graph, layers, slot, watch) : undefined;

  return (layer, q, k, v, enlarged) => {
    const { heads, kvHeads, headSize, scale } = layers[layer]!.attention;
    const shape = [1, kvHeads, `C${slot}`, headSize];
    const [keys, values] = ["keys", "values"].map((name) => graph.input(`${name}.${layer}.${slot}`, "float32", shape)) as [string, string];
    for (const buffer of [keys, values]) graph.output(written(buffer), shape);
    const mask = masks?.[ofLayer[layer]!];
    if (apart && isApart(layer)) return apart(layer, q, { k, v, keys, values }, mask!, enlarged);
    const [result] = graph.fresh(1) as [string];
    return graph.contrib(
      "GroupQueryAttention",
      [q, k, v, keys, values, last, total, ...(mask === undefined ? [] : ["", "", "", mask])],
      { num_heads: heads, kv_num_heads: kvHeads, scale: scale * enlarged },
      [result, written(keys), written(values)],
    );
  };
}

/** A layer's K and V of the pass, and the buffers of all rows. */
type LayerKv = { readonly k: string; readonly v: string; readonly keys: string; readonly values: string };

/** Attention as products and a softmax. */
function writeApart(graph: GraphWriter, layers: readonly LayerSpec[], slot: number, watch: Watch | undefined) {
  const rows = graph.input(`rows.${slot}`, "int32", [1, 1, `S${slot}`, 1]);
  const all = graph.input(`all.${slot}`, "int64", [1]);
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
    const allKeys = used(write(byHead(k), keys));
    const products = graph.node("MatMul", [queries, graph.node("Transpose", [allKeys], { perm: [0, 1, 3, 2] })]);
    const capped = softCap === undefined ? products : graph.node("Mul", [graph.node("Tanh", [products]), graph.real(softCap)]);
    // `[kv_heads, group, S, N]`, so that the mask applies to all heads.
    const perToken = graph.node("Concat", [graph.integers([kvHeads, group, -1]), all], { axis: 0 });
    const shares = graph.node("Softmax", [graph.node("Add", [graph.node("Reshape", [capped, perToken]), mask])], { axis: -1 });
    if (watch?.watched.has(layer)) watch.add(layer, shares);
    const perHead = graph.node("Concat", [graph.integers([1, kvHeads, -1]), all], { axis: 0 });
    const allValues = used(write(byHead(v), values));
    const attended = graph.node("MatMul", [graph.node("Reshape", [shares, perHead]), allValues]);
    const apart = graph.node("Reshape", [attended, graph.integers([kvHeads, group, -1, headSize])]);
    return graph.node("Reshape", [graph.node("Transpose", [apart], { perm: [2, 0, 1, 3] }), graph.integers([1, -1, heads * headSize])]);
  };
}

/**
 * Writes rows `[1, heads, T, head_size]` into a buffer `[1, heads, C, head_size]`, in place if the output (`written`) is the same buffer:
 * token i into row `rows [1, 1, T, 1]` i. Rows beyond the buffer are left out.
 */
export function writeRows(graph: GraphWriter, rows: string, { kvHeads, headSize }: Pick<AttentionSpec, "kvHeads" | "headSize">) {
  return (values: string, buffer: string): string => {
    const places = graph.node("Expand", [rows, graph.integers([1, kvHeads, 1, headSize])]);
    return graph.node("ScatterElements", [buffer, places, values], { axis: 2 }, [written(buffer)]);
  };
}
