import { emptyBlock, GROUP_TOKENS, type Int8Block } from "../../kv/block.js";
import { type LayerShape, layerOffsets, widthOf } from "../../kv/form.js";
import type { LayerSpec } from "../../model/spec.js";
import type { GraphWriter } from "../cpu/onnx.js";

/** Whether the device packs KV: it does so for all layers at once, which must be alike. */
function packsOnDevice(layers: readonly LayerShape[]): boolean {
  const [{ heads, headSize }] = layers as readonly [LayerShape];
  return headSize % CODES_PER_WORD === 0 && layers.every((layer) => layer.heads === heads && layer.headSize === headSize);
}

/** Codes of 8 bits leave the device as words of 32 bits, the first code in the lowest byte. */
const CODES_PER_WORD = 4;

/** What the device packs of a batch. */
export const PACKED = ["k.codes", "k.scales", "v.codes", "v.scales"] as const;

/**
 * Which rows of a batch the groups of its blocks consist of (`GROUP_TOKENS`), one group after the other, each padded to the same
 * length; and where the groups of each block begin.
 */
export type Groups = {
  /** Rows of a group. */
  readonly length: number;
  /** For each row of the groups, one of the batch. */
  readonly rows: Int32Array;
  /** 1 if a row belongs to its block, 0 if it is padding. */
  readonly isOwn: Float32Array;
  /** The first group of each block. */
  readonly first: readonly number[];
};

/** @param blocks for each the rows of the batch that it keeps */
export function groupsOf(blocks: readonly { readonly from: number; readonly to: number }[]): Groups {
  const longest = Math.max(...blocks.map(({ from, to }) => to - from));
  const length = Math.min(longest, GROUP_TOKENS);
  const first: number[] = [];
  let count = 0;
  for (const { from, to } of blocks) {
    first.push(count);
    count += Math.ceil((to - from) / GROUP_TOKENS);
  }
  const rows = new Int32Array(count * length);
  const isOwn = new Float32Array(count * length);
  blocks.forEach(({ from, to }, block) => {
    for (let row = from, at = first[block]! * length; row < to; row++, at++) {
      rows[at] = row;
      isOwn[at] = 1;
    }
  });
  return { length, rows, isOwn, first };
}

/**
 * Writes how `k.l.0` and `v.l.0` `[1, S, width]` of all layers are rounded to 8 bits, as blocks store them (`Int8Block`). Inputs: `rows [R]`,
 * `own [R, 1]` and `group [1]` of `Groups`. Outputs, for G groups: `k.codes` and `v.codes [layers, R, width / 4]`, four codes in a
 * word; `k.scales [layers, G, width]`, `v.scales [layers, R, heads]`.
 */
export function writePacking(graph: GraphWriter, layers: readonly LayerSpec[]): void {
  const shapes = layers.map(({ attention: { kvHeads, headSize } }) => ({ heads: kvHeads, headSize }));
  if (!packsOnDevice(shapes)) return;
  const [{ heads, headSize }] = shapes as [LayerShape];
  const width = heads * headSize;
  const rows = graph.input("rows", "int32", ["R"]);
  const own = graph.input("own", "float32", ["R", 1]);
  const group = graph.input("group", "int64", [1]);
  const shape = (...sizes: readonly (number | string)[]) =>
    graph.node(
      "Concat",
      sizes.map((size) => (typeof size === "number" ? graph.integers([size]) : size)),
      { axis: 0 },
    );

  /** `[R, layers * width]`, 0 in padding. */
  const gathered = (name: "k" | "v") => {
    const all = graph.node(
      "Concat",
      layers.map((_, layer) => `${name}.${layer}.0`),
      { axis: 2 },
    );
    const taken = graph.node("Gather", [graph.node("Reshape", [all, graph.integers([-1, layers.length * width])]), rows], { axis: 0 });
    return graph.node("Mul", [taken, own]);
  };
  /** Rounds values, and those of each layer follow one another. */
  const write = (name: "k" | "v", values: string, axis: number, scaleWidth: number) => {
    const largest = graph.node("ReduceMax", [graph.node("Abs", [values]), graph.integers([axis])], { keepdims: 1 });
    const scales = graph.node("Mul", [largest, graph.real(1 / 127)]);
    // Where all values are 0, any number but 0 serves to divide them.
    const divisor = graph.node("Add", [scales, graph.real(1e-30)]);
    const codes = graph.node("Floor", [graph.node("Add", [graph.node("Div", [values, divisor]), graph.real(0.5)])]);
    // The byte of a code below 0 is 256 more; what does not fit into the word is lost, as it should be.
    const isBelow = graph.cast(graph.node("Less", [codes, graph.real(0)]), "float32");
    const bytes = graph.node("Add", [codes, graph.node("Mul", [isBelow, graph.real(256)])]);
    const words = graph.node("Reshape", [
      graph.node("Cast", [bytes], { to: INT32 }),
      graph.integers([-1, layers.length, width / CODES_PER_WORD, CODES_PER_WORD]),
    ]);
    // A device's ReduceSum is too inexact for that.
    const apart = graph.split(words, [1, 1, 1, 1], 3);
    const joined = apart.reduceRight((above, code) => {
      const shifted = graph.node("Mul", [above, graph.node("Cast", [graph.integers([2 ** 8])], { to: INT32 })]);
      return graph.node("Add", [shifted, code]);
    });
    graph.node("Transpose", [graph.node("Squeeze", [joined, graph.integers([3])])], { perm: [1, 0, 2] }, [`${name}.codes`]);
    graph.output(`${name}.codes`, [layers.length, "R", width / CODES_PER_WORD], "int32");
    const perLayer = graph.node("Reshape", [scales, graph.integers([-1, layers.length, scaleWidth])]);
    graph.node("Transpose", [perLayer], { perm: [1, 0, 2] }, [`${name}.scales`]);
    graph.output(`${name}.scales`, [layers.length, name === "k" ? "G" : "R", scaleWidth]);
  };
  const byGroup = graph.node("Reshape", [gathered("k"), shape(-1, group, layers.length * width)]);
  write("k", byGroup, 1, width);
  const byHead = graph.node("Reshape", [gathered("v"), graph.integers([-1, layers.length * heads, headSize])]);
  write("v", byHead, 2, heads);
}

/** ONNX's number for the type (TensorProto.DataType). */
const INT32 = 6;

/** What the device returned of `writePacking`. */
export type PackedBatch = {
  readonly "k.codes": Int32Array;
  readonly "v.codes": Int32Array;
  readonly "k.scales": Float32Array;
  readonly "v.scales": Float32Array;
};

/** Block `index` of a batch, of this many tokens. */
export function unpackBlock(
  layers: readonly LayerShape[],
  packed: PackedBatch,
  { length, rows, first }: Groups,
  index: number,
  tokens: number,
): Int8Block {
  const block = emptyBlock(layers, tokens, "int8") as Int8Block;
  const width = widthOf(layers[0]!);
  const { heads } = layers[0]!;
  const [all, groups] = [rows.length, rows.length / length];
  const offsets = layerOffsets(layers);
  const [group, own] = [first[index]!, Math.ceil(tokens / GROUP_TOKENS)];
  const codes = { k: bytesOf(packed["k.codes"]), v: bytesOf(packed["v.codes"]) };
  layers.forEach((_, layer) => {
    const row = layer * all + group * length;
    for (const name of ["k", "v"] as const)
      block[name].set(codes[name].subarray(row * width, (row + tokens) * width), tokens * offsets.widths[layer]!);
    const ofGroups = packed["k.scales"].subarray((layer * groups + group) * width, (layer * groups + group + own) * width);
    block.kScales.set(ofGroups, own * offsets.widths[layer]!);
    block.vScales.set(packed["v.scales"].subarray(row * heads, (row + tokens) * heads), tokens * offsets.heads[layer]!);
  });
  return block;
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Int8Array {
  return new Int8Array(buffer, byteOffset, byteLength);
}
