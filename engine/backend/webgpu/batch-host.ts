import { Tensor } from "../../../runtime/index.js";
import type { Block, Precision } from "../../kv/block.js";
import type { KvForm } from "../../kv/form.js";
import { RotaryTable } from "../../kv/rotary.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { kvFormOf, type ModelSpec, maskKinds } from "../../model/spec.js";
import type { BlockItem } from "../backend.js";
import { KvCache } from "../cpu/cache.js";
import { SOUND } from "../cpu/decoder.js";
import { Embedding } from "../cpu/embedding.js";
import type { BatchGraph, BatchPass, BatchResults } from "./batch-session.js";
import { integers } from "./buffers.js";
import { type Groups, groupsOf, PACKED, type PackedBatch, unpackBlock } from "./packing.js";
import { anglesOf, TokenEmbeddings } from "./token-feeds.js";
import { mustBeComputed, mustBeSound } from "./valid.js";

/** A batch of blocks, which the device encodes in one pass. */
export type Batch = { readonly items: readonly BlockItem[]; readonly precision: Precision };

/** The processor's part of encoding on a device: what a pass reads, and the blocks in what it returns. */
export class BatchHost {
  private readonly embeddings: TokenEmbeddings;
  private readonly tables: readonly RotaryTable[];
  private readonly form: KvForm;
  private readonly rows: KvCache;

  constructor(
    private readonly spec: ModelSpec,
    file: ModelFile,
    private readonly graph: BatchGraph,
  ) {
    this.embeddings = new TokenEmbeddings(new Embedding(file), spec.hidden);
    this.tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
    this.form = kvFormOf(spec);
    this.rows = new KvCache(this.form, this.tables);
  }

  /** One pass over all blocks. The device itself packs those in 8 bits. */
  prepare({ items, precision }: Batch): BatchPass {
    const length = lengthOf(items);
    const packs = this.graph.inputs.includes("own");
    const isPacked = packs && precision === "int8";
    const wanted = this.graph.outputs.filter((name) => name === SOUND || isPackedOutput(name) === isPacked);
    const feeds = { ...this.tokensOf(items, length), ...this.masksOf(items, length), ...(packs && tensorsOf(groupsIn(items, length))) };
    return { feeds, wanted };
  }

  /** @throws if the device computed nothing valid: its results are not used */
  pack({ items, precision }: Batch, results: BatchResults): Block[] {
    const length = lengthOf(items);
    const valuesOf = (name: string) => results[name] as Float32Array;
    items.forEach(({ tokens }, i) => {
      if (SOUND in results) mustBeSound(valuesOf(SOUND).subarray(i * length, i * length + tokens.length));
    });
    if (PACKED[0] in results) {
      const groups = groupsIn(items, length);
      return items.map(({ tokens, from }, i) => {
        const block = unpackBlock(this.form.layers, results as PackedBatch, groups, i, tokens.length - from);
        for (const scales of [block.kScales, block.vScales]) mustBeComputed(scales);
        return block;
      });
    }
    return items.map((item, i) => {
      const from = i * length;
      this.rows.truncate(0);
      this.rows.reserve(item.tokens.length);
      this.spec.layers.forEach(({ attention: { kvHeads, headSize } }, layer) => {
        const width = kvHeads * headSize;
        const written = this.rows.rows(layer, 0, item.tokens.length);
        for (const name of ["k", "v"] as const) {
          const values = valuesOf(`${name}.${layer}.0`);
          written[name].set(values.subarray(from * width, (from + item.tokens.length) * width));
          mustBeComputed(written[name].subarray(-width));
        }
      });
      // At position 0 nothing is rotated: the device's K is in the form that blocks store.
      this.rows.append(new Array<number>(item.tokens.length).fill(0));
      return this.rows.extract(item.from, item.tokens.length, precision);
    });
  }

  /** Embeddings and angles, each block padded with copies of its last token, which none of its own tokens sees. */
  private tokensOf(items: readonly BlockItem[], length: number): Record<string, Tensor> {
    const padded = (values: readonly number[]) => Array.from({ length }, (_, i) => values[Math.min(i, values.length - 1)]!);
    const tokens = items.flatMap((item) => padded(item.tokens));
    const positions = items.flatMap((item) => padded(item.positions));
    return {
      embeddings: this.embeddings.of(tokens),
      dims: new Tensor("int64", BigInt64Array.from([items.length, length], BigInt), [2]),
      ...anglesOf(this.tables, positions),
    };
  }

  /** One mask for all blocks, or one for each if there is a window and positions have gaps. */
  private masksOf(items: readonly BlockItem[], length: number): Record<string, Tensor> {
    const feeds: Record<string, Tensor> = {};
    const even = items.every(({ positions }) => positions.at(-1)! - positions[0]! === positions.length - 1);
    maskKinds(this.spec.layers).kinds.forEach(({ window }, m) => {
      const of = window === undefined || even ? [Array.from({ length }, (_, i) => i)] : items.map(({ positions }) => positions);
      const mask = new Float32Array(of.length * length * length).fill(-Infinity);
      let row = 0;
      for (const positions of of) {
        for (let token = 0; token < length; token++, row += length) {
          if (window === undefined) mask.fill(0, row, row + token + 1);
          // Padding sees itself.
          else
            for (let other = 0; other <= token; other++)
              if (other === token || positions[token]! - positions[other]! < window) mask[row + other] = 0;
        }
      }
      feeds[`mask.${m}`] = new Tensor("float32", mask, [of.length, 1, 1, length, length]);
    });
    return feeds;
  }
}

/** Tokens of each block in a pass: those of the longest. */
function lengthOf(items: readonly BlockItem[]): number {
  return Math.max(...items.map(({ tokens }) => tokens.length));
}

function groupsIn(items: readonly BlockItem[], length: number): Groups {
  return groupsOf(items.map(({ from, tokens }, i) => ({ from: i * length + from, to: i * length + tokens.length })));
}

function isPackedOutput(name: string): boolean {
  return (PACKED as readonly string[]).includes(name);
}

function tensorsOf({ length, rows, isOwn }: Groups): Record<string, Tensor> {
  return {
    rows: new Tensor("int32", rows, [rows.length]),
    own: new Tensor("float32", isOwn, [isOwn.length, 1]),
    group: integers([length]),
  };
}
