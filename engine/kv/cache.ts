import type { Range } from "../plan.js";
import { allocateBlock, type Block, type KvShape } from "./block.js";
import { rotate, unrotate, type RotaryTable } from "./rotary.js";

/**
 * The KV cache of one running prompt: per layer `[length, kv_heads, head_size]`, K after the rotary embedding.
 * Spliced blocks and the tokens computed since lie in one buffer, so that a pass reads one tensor a layer, and the
 * graph writes new rows in place behind it.
 */
export class KvCache {
  length = 0;
  private capacity = 0;
  private k: Float32Array[] = [];
  private v: Float32Array[] = [];

  constructor(
    private readonly shape: KvShape,
    private readonly table: RotaryTable,
  ) {}

  /** Makes room for `tokens` rows in all; what is cached stays. */
  reserve(tokens: number): void {
    if (tokens <= this.capacity) return;
    this.capacity = Math.max(tokens, Math.ceil(this.capacity * 1.5));
    const grow = (old: Float32Array | undefined): Float32Array => {
      const grown = new Float32Array(this.capacity * this.shape.width);
      if (old) grown.set(old.subarray(0, this.length * this.shape.width));
      return grown;
    };
    for (let layer = 0; layer < this.shape.layers; layer++) {
      this.k[layer] = grow(this.k[layer]);
      this.v[layer] = grow(this.v[layer]);
    }
  }

  /** Cached rows of a layer, `[length, kv_heads, head_size]`. */
  past(layer: number): { k: Float32Array; v: Float32Array } {
    const end = this.length * this.shape.width;
    return { k: this.k[layer]!.subarray(0, end), v: this.v[layer]!.subarray(0, end) };
  }

  /** Room behind the cached rows for the next pass to write into; `reserve` first, then raise `length`. */
  next(layer: number, tokens: number): { k: Float32Array; v: Float32Array } {
    const start = this.length * this.shape.width;
    const end = start + tokens * this.shape.width;
    return { k: this.k[layer]!.subarray(start, end), v: this.v[layer]!.subarray(start, end) };
  }

  /** Splices a block: re-encodes its K for the given position of each token, leaving out tokens within `omit`. */
  splice(block: Block, positions: (token: number) => number, omit: readonly Range[] = []): void {
    const { width, layers } = this.shape;
    const runs = keptRuns(block.tokens, omit);
    const kept = runs.reduce((sum, [start, end]) => sum + end - start, 0);
    this.reserve(this.length + kept);
    for (let layer = 0; layer < layers; layer++) {
      const k = this.k[layer]!;
      const v = this.v[layer]!;
      const base = layer * block.tokens * width;
      let to = this.length * width;
      for (const [start, end] of runs) {
        v.set(block.v.subarray(base + start * width, base + end * width), to);
        for (let token = start; token < end; token++, to += width) {
          rotate(this.table, positions(token), block.k, base + token * width, k, to, width);
        }
      }
    }
    this.length += kept;
  }

  /** Rows `[from, to)` as a block: each row's K without the rotary embedding of its position. The cache stays as it is. */
  extract(from: number, to: number, positions: Int32Array): Block {
    const { width, layers } = this.shape;
    const block = allocateBlock(this.shape, to - from);
    for (let layer = 0, at = 0; layer < layers; layer++) {
      const k = this.k[layer]!;
      block.v.set(this.v[layer]!.subarray(from * width, to * width), at);
      for (let row = from; row < to; row++, at += width) unrotate(this.table, positions[row - from]!, k, row * width, block.k, at, width);
    }
    return block;
  }

  /** Removes rows `[from, to)`; those behind move down and keep their positions. */
  drop(from: number, to: number): void {
    const { width } = this.shape;
    for (const rows of [...this.k, ...this.v]) rows.copyWithin(from * width, to * width, this.length * width);
    this.length -= to - from;
  }
}

/** The runs of `[0, tokens)` that `omit` leaves. */
export function keptRuns(tokens: number, omit: readonly Range[]): Range[] {
  const runs: Range[] = [];
  let at = 0;
  for (const [start, end] of [...omit].sort((a, b) => a[0] - b[0])) {
    if (start > at) runs.push([at, start]);
    at = Math.max(at, end);
  }
  if (at < tokens) runs.push([at, tokens]);
  return runs;
}
