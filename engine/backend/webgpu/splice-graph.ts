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

/** The graphs for splicing have this many blocks: their operators run once for all. */
export const SPLICE_SIZES = [1, 4, 16] as const;

/** The name of an array of block `index` as an input. */
export function blockInput(name: string, index: number): string {
  return `${name}.of.${index}`;
}

export type SpliceShape = { readonly precision: HeldPrecision; readonly blocks: number };

/**
 * Writes the graph that puts the KV of blocks to its place in a prompt: for block i (`blockInput`) `k`, `v` `[units, T_i * unit]`, as
 * int8 with `kScales` `[units, groups * unit]`, `vScales [head units, T_i * heads unit]` and `groups [T_i]`, the group of each token, or as
 * float32; for the tokens of all blocks, T in all, `cos.r`, `sin.r` `[T, dimensions / 2]` of their positions per kind of rotary
 * embedding, and `rows [1, 1, T, 1]`, their rows, beyond the buffers for those left out; and buffers `keys.l.0`, `values.l.0`
 * `[1, heads, C, head_size]`, which are also outputs (`written`).
 */
export function spliceGraph(layers: readonly LayerForm[], rotaries: readonly RotarySpec[], { precision, blocks }: SpliceShape): Uint8Array {
  const graph = new GraphWriter();
  const unit = unitsOf(layers);
  const offsets = layerOffsets(layers);
  const [units, headUnits] = [offsets.widths.at(-1)! / unit.width, offsets.heads.at(-1)! / unit.heads];
  const rows = graph.input("rows", "int32", [1, 1, "T", 1]);
  const tables = rotaries.map(({ dimensions }, r) =>
    ["cos", "sin"].map((name) => graph.input(`${name}.${r}`, "float32", ["T", dimensions / 2])),
  );
  const each = Array.from({ length: blocks }, (_, i) => {
    const name = (array: string) => blockInput(array, i);
    if (precision === "float32") {
      const [k, v] = ["k", "v"].map((array) => graph.input(name(array), "float32", [units, `${array}${i}`])) as [string, string];
      return { k, v, scales: undefined };
    }
    const [k, v] = ["k", "v"].map((array) => {
      const codes = graph.input(name(array), "int8", [units, `${array}${i}`]);
      return graph.node("DequantizeLinear", [codes, graph.real(1)]);
    }) as [string, string];
    const scales = {
      k: graph.input(name("kScales"), "float32", [units, `kS${i}`]),
      v: graph.input(name("vScales"), "float32", [headUnits, `vS${i}`]),
      groups: graph.input(name("groups"), "int32", [`T${i}`]),
    };
    return { k, v, scales };
  });
  const joined = (parts: readonly string[]) => (parts.length === 1 ? parts[0]! : graph.node("Concat", parts, { axis: 1 }));

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

    const keys = joined(
      each.map(({ k, scales }) => {
        const stored = part(k, offsets.widths, unit.width, [width]);
        if (!scales) return stored;
        const scale = graph.node("Gather", [part(scales.k, offsets.widths, unit.width, [width]), scales.groups], { axis: 1 });
        return graph.node("Mul", [stored, scale]);
      }),
    );
    const values = joined(
      each.map(({ v, scales }) => {
        const stored = part(v, offsets.widths, unit.width, [heads, headSize]);
        return scales ? graph.node("Mul", [stored, part(scales.v, offsets.heads, unit.heads, [heads, 1])]) : stored;
      }),
    );
    const turned = new Map<number | undefined, string>();
    for (const { rotary } of those) {
      if (turned.has(rotary)) continue;
      const { dimensions } = rotaries[rotary ?? 0] ?? { dimensions: headSize };
      const some = dimensions === headSize ? {} : { num_heads: heads, rotary_embedding_dim: dimensions };
      // The tables' rows are those of the blocks' tokens: the first token's is row 0.
      turned.set(
        rotary,
        byHead(rotary === undefined ? keys : graph.contrib("RotaryEmbedding", [keys, graph.integers([0]), ...tables[rotary]!], some)),
      );
    }
    const allValues = graph.node("Transpose", [values], { perm: [0, 2, 1, 3] });
    const write = writeRows(graph, rows, { kvHeads: heads, headSize });
    those.forEach(({ rotary }, i) => {
      const shape = [1, heads, "C", headSize];
      for (const [name, rows] of [
        ["keys", turned.get(rotary)!],
        ["values", allValues],
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
