import type { Precision } from "../../kv/block.js";
import { type LayerForm, layerOffsets, widthOf } from "../../kv/form.js";
import type { RotarySpec } from "../../kv/rotary.js";
import { GraphWriter } from "../cpu/onnx.js";
import { writeRows } from "./prompt-attention.js";

/** How blocks are held on a device: those in float16 are widened. */
export type HeldPrecision = Exclude<Precision, "float16">;

/** Successive layers of the same shape. */
type Run = { readonly from: number; readonly layers: readonly LayerForm[]; readonly heads: number; readonly headSize: number };

/** A block's arrays as matrices whose rows each belong to one layer: `[units, tokens * unit]`. */
export type Units = { readonly width: number; readonly heads: number };

/** The longest run of values that every layer's values consist of, and the same for heads. */
export function unitsOf(layers: readonly LayerForm[]): Units {
  return { width: layers.map(widthOf).reduce(divisor), heads: layers.map(({ heads }) => heads).reduce(divisor) };
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/**
 * Writes the graph that puts a block's KV to its place in a prompt: inputs `k`, `v` `[units, T * unit]`, as int8 with `kScales`
 * `[units, groups * unit]` and `vScales [head units, T * heads unit]`, or as float32; for int8, `groups [T]`, the group of each token; per
 * kind of rotary embedding `cos.r`, `sin.r` `[T, dimensions / 2]` of the tokens' positions; `rows [1, 1, T, 1]`, the row of each
 * token, beyond the buffers for those left out; and buffers `keys.l.0`, `values.l.0` `[1, heads, C, head_size]`, which are also
 * outputs (`written`).
 */
export function spliceGraph(layers: readonly LayerForm[], rotaries: readonly RotarySpec[], precision: HeldPrecision): Uint8Array {
  const graph = new GraphWriter();
  const unit = unitsOf(layers);
  const offsets = layerOffsets(layers);
  const rows = graph.input("rows", "int32", [1, 1, "T", 1]);
  const tables = rotaries.map(({ dimensions }, r) =>
    ["cos", "sin"].map((name) => graph.input(`${name}.${r}`, "float32", ["T", dimensions / 2])),
  );
  const values = (name: "k" | "v") => {
    const units = [offsets.widths.at(-1)! / unit.width, `${name}T`];
    if (precision === "float32") return graph.input(name, "float32", units);
    return graph.node("DequantizeLinear", [graph.input(name, "int8", units), graph.real(1)]);
  };
  const [k, v] = [values("k"), values("v")];
  const scales = precision === "int8" && {
    k: graph.input("kScales", "float32", [offsets.widths.at(-1)! / unit.width, "KG"]),
    v: graph.input("vScales", "float32", [offsets.heads.at(-1)! / unit.heads, "VT"]),
    groups: graph.input("groups", "int32", ["T"]),
  };

  const runs = runsOf(layers);
  for (const { from, layers: those, heads, headSize } of runs) {
    const to = from + those.length;
    const width = heads * headSize;
    /** A run's part of a matrix. */
    const part = (matrix: string, rows: readonly number[], size: number, shape: readonly number[]) => {
      const bounds = [rows[from]! / size, rows[to]! / size, 0].map((value) => graph.integers([value]));
      const own = runs.length === 1 ? matrix : graph.node("Slice", [matrix, ...bounds]);
      return graph.node("Reshape", [own, graph.integers([those.length, -1, ...shape])]);
    };
    const byHead = (rows: string) => {
      const apart = graph.node("Reshape", [rows, graph.integers([those.length, -1, heads, headSize])]);
      return graph.node("Transpose", [apart], { perm: [0, 2, 1, 3] });
    };
    const layerOf = (all: string, index: number) =>
      those.length === 1 ? all : graph.node("Slice", [all, ...[index, index + 1, 0].map((value) => graph.integers([value]))]);

    const stored = part(k, offsets.widths, unit.width, [width]);
    const scale = scales && graph.node("Gather", [part(scales.k, offsets.widths, unit.width, [width]), scales.groups], { axis: 1 });
    const keys = scale ? graph.node("Mul", [stored, scale]) : stored;
    const turned = new Map<number | undefined, string>();
    for (const { rotary } of those) {
      if (turned.has(rotary)) continue;
      const { dimensions } = rotaries[rotary ?? 0] ?? { dimensions: headSize };
      const some = dimensions === headSize ? {} : { num_heads: heads, rotary_embedding_dim: dimensions };
      // The tables' rows are those of the block's tokens: the first token's is row 0.
      turned.set(
        rotary,
        byHead(rotary === undefined ? keys : graph.contrib("RotaryEmbedding", [keys, graph.integers([0]), ...tables[rotary]!], some)),
      );
    }
    const perHead = part(v, offsets.widths, unit.width, [heads, headSize]);
    const widened = scales ? graph.node("Mul", [perHead, part(scales.v, offsets.heads, unit.heads, [heads, 1])]) : perHead;
    const all = graph.node("Transpose", [widened], { perm: [0, 2, 1, 3] });
    const write = writeRows(graph, rows, { kvHeads: heads, headSize });
    those.forEach(({ rotary }, i) => {
      const shape = [1, heads, "C", headSize];
      for (const [name, rows] of [
        ["keys", turned.get(rotary)!],
        ["values", all],
      ] as const) {
        const buffer = graph.input(`${name}.${from + i}.0`, "float32", shape);
        graph.output(write(layerOf(rows, i), buffer), shape);
      }
    });
  }
  return graph.encodeWhole();
}

function runsOf(layers: readonly LayerForm[]): readonly Run[] {
  const runs: (Run & { layers: LayerForm[] })[] = [];
  for (const [i, layer] of layers.entries()) {
    const last = runs.at(-1);
    if (last && last.heads === layer.heads && last.headSize === layer.headSize) last.layers.push(layer);
    else runs.push({ from: i, layers: [layer], heads: layer.heads, headSize: layer.headSize });
  }
  return runs;
}
