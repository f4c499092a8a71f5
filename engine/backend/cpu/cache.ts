import { keptRuns, KvspliceError, type Range } from "../../../plan/index.js";
import { emptyBlock, GROUP_TOKENS, type Block, type KvShape, type Precision } from "../../kv/block.js";
import { createKernels, type Kernels } from "./kernels.js";
import type { RotaryTable } from "../../kv/rotary.js";

const PAGE_BYTES = 1 << 16;
const MAX_PAGES = 1 << 16; // 4 GiB, what a 32-bit address reaches
/** Stored rows of one tile wait beside the cache for their kernel: few enough to stay in the processor's second-level cache. */
const TILE_BYTES = 1 << 17;
const FLOAT_BYTES = 4;

/**
 * The KV cache of one running prompt: per layer `[length, kv_heads, head_size]`, K after the rotary embedding.
 * Spliced blocks and the tokens computed since lie in one buffer, so that a pass reads one tensor a layer, and the
 * graph writes new rows in place behind it.
 *
 * It lives in a WebAssembly memory, where the kernels widen and re-encode stored rows straight into it:
 *
 *     angles | scales | tile | rows on their way out | layer 0: K [capacity, width], V | layer 1: ...
 */
export class KvCache {
  length = 0;
  /** Rows that there is room for. */
  capacity = 0;
  private readonly memory = new WebAssembly.Memory({ initial: 0, maximum: MAX_PAGES });
  private readonly kernels: Kernels;
  private readonly headSize: number;
  /** Tokens that are spliced at once. */
  private readonly tile: number;
  /** Addresses in the memory. */
  private readonly scalesAt: number;
  private readonly tileAt: number;
  private readonly outAt: number;
  private readonly layersAt: number;
  private bytes = new Uint8Array(0);
  private floats = new Float32Array(0);

  constructor(
    private readonly shape: KvShape,
    private readonly table: RotaryTable,
  ) {
    this.headSize = 2 * table.half;
    this.kernels = createKernels(this.memory, shape.width / this.headSize, this.headSize);
    const rowBytes = shape.width * FLOAT_BYTES;
    this.tile = Math.min(GROUP_TOKENS, Math.max(1, Math.floor(TILE_BYTES / rowBytes)));
    this.scalesAt = GROUP_TOKENS * this.headSize * FLOAT_BYTES;
    this.tileAt = this.scalesAt + rowBytes * Math.max(1, Math.ceil(GROUP_TOKENS / this.headSize));
    this.outAt = this.tileAt + GROUP_TOKENS * rowBytes;
    this.layersAt = this.outAt + GROUP_TOKENS * rowBytes;
  }

  /**
   * Makes room for `tokens` rows in all; what is cached stays. Views that `rows` gave before are void.
   * @throws KvspliceError `too_long` where that is more than one memory holds
   */
  reserve(tokens: number): void {
    if (tokens <= this.capacity) return;
    const capacity = Math.max(tokens, Math.ceil(this.capacity * 1.5));
    const rows = 2 * this.shape.layers;
    const stride = capacity * this.shape.width;
    this.grow(tokens, this.layersAt + rows * stride * FLOAT_BYTES);
    // The last first: each moves up, over what has moved already.
    const start = this.layersAt / FLOAT_BYTES;
    for (let i = rows - 1; i > 0; i--) {
      const from = start + i * this.capacity * this.shape.width;
      this.floats.copyWithin(start + i * stride, from, from + this.length * this.shape.width);
    }
    this.capacity = capacity;
  }

  /**
   * Rows `[from, to)` of a layer, `[to - from, kv_heads, head_size]`, over the cache's own memory, until it grows. Those
   * behind `length` are room for a pass to write into: `reserve` first.
   */
  rows(layer: number, from: number, to: number): { k: Float32Array; v: Float32Array } {
    const length = (to - from) * this.shape.width;
    const view = (part: "k" | "v") => {
      const start = this.addressOf(layer, part, from) / FLOAT_BYTES;
      return this.floats.subarray(start, start + length);
    };
    return { k: view("k"), v: view("v") };
  }

  /**
   * Splices a block: re-encodes the K of token i for `positions[i]`, leaving out tokens within `omit`. A tile of stored
   * rows is copied beside the cache, and is widened, turned and written to its place in one loop.
   */
  splice(block: Block, positions: Int32Array, omit: readonly Range[] = []): void {
    const runs = keptRuns(block.tokens, omit);
    this.reserve(this.length + runs.reduce((sum, [start, end]) => sum + end - start, 0));
    for (const [start, end] of runs) {
      for (let from = start; from < end; ) {
        // A tile lies within one group of tokens, whose K channels have one scale each.
        const to = Math.min(end, from + this.tile, GROUP_TOKENS * (Math.floor(from / GROUP_TOKENS) + 1));
        this.layAngles(positions, from, to, 1);
        for (let layer = 0; layer < this.shape.layers; layer++) this.spliceTile(block, layer, from, to);
        this.length += to - from;
        from = to;
      }
    }
  }

  /** Rows `[from, to)` as a block: each row's K without the rotary embedding of its position. The cache stays as it is. */
  extract(from: number, to: number, positions: Int32Array, precision: Precision): Block {
    const block = emptyBlock(this.shape, to - from, precision, this.headSize);
    for (let start = 0; start < block.tokens; start += GROUP_TOKENS) {
      const end = Math.min(block.tokens, start + GROUP_TOKENS);
      this.layAngles(positions, start, end, -1);
      for (let layer = 0; layer < this.shape.layers; layer++) this.extractGroup(block, layer, start, end, from + start);
    }
    return block;
  }

  /** Tokens `[from, to)` of one layer, to the rows behind the cached ones. */
  private spliceTile(block: Block, layer: number, from: number, to: number): void {
    const { kernels, tileAt, scalesAt } = this;
    const { width } = this.shape;
    const tokens = to - from;
    const rows = (tokens * width) / this.headSize;
    const [start, end] = [(layer * block.tokens + from) * width, (layer * block.tokens + to) * width];
    const [k, v] = [this.addressOf(layer, "k", this.length), this.addressOf(layer, "v", this.length)];
    switch (block.precision) {
      case "float32":
        this.floats.set(block.k.subarray(start, end), tileAt / FLOAT_BYTES);
        kernels.rotate_float32(tileAt, k, 0, tokens);
        this.floats.set(block.v.subarray(start, end), v / FLOAT_BYTES);
        return;
      case "float16":
        this.lay(block.k, start, end);
        kernels.rotate_float16(tileAt, k, 0, tokens);
        this.lay(block.v, start, end);
        kernels.widen_float16(tileAt, v, rows);
        return;
      case "int8":
        this.lay(block.k, start, end);
        this.layScales(block.kScales, (layer * Math.ceil(block.tokens / GROUP_TOKENS) + Math.floor(from / GROUP_TOKENS)) * width, width);
        kernels.rotate_int8(tileAt, k, 0, tokens, scalesAt);
        this.lay(block.v, start, end);
        this.layScales(block.vScales, start / this.headSize, rows);
        kernels.widen_int8(tileAt, v, rows, scalesAt);
        return;
    }
  }

  /** Tokens `[from, to)` of one layer of a block, which lie in the cache from `row` on. */
  private extractGroup(block: Block, layer: number, from: number, to: number, row: number): void {
    const { kernels, tileAt, outAt, scalesAt } = this;
    const { width } = this.shape;
    const tokens = to - from;
    const rows = (tokens * width) / this.headSize;
    const start = (layer * block.tokens + from) * width;
    const v = this.addressOf(layer, "v", row);
    kernels.rotate_float32(this.addressOf(layer, "k", row), tileAt, 0, tokens);
    switch (block.precision) {
      case "float32":
        this.take(block.k, start, tokens * width, tileAt);
        this.take(block.v, start, tokens * width, v);
        return;
      case "float16":
        kernels.narrow_float16(tileAt, outAt, rows);
        this.take(block.k, start, tokens * width, outAt);
        kernels.narrow_float16(v, outAt, rows);
        this.take(block.v, start, tokens * width, outAt);
        return;
      case "int8":
        this.floats.fill(0, scalesAt / FLOAT_BYTES, scalesAt / FLOAT_BYTES + width);
        kernels.narrow_int8_channels(tileAt, outAt, tokens, scalesAt);
        this.take(block.k, start, tokens * width, outAt);
        this.take(block.kScales, (layer * Math.ceil(block.tokens / GROUP_TOKENS) + from / GROUP_TOKENS) * width, width, scalesAt);
        kernels.narrow_int8_rows(v, outAt, rows, scalesAt);
        this.take(block.v, start, tokens * width, outAt);
        this.take(block.vScales, start / this.headSize, rows, scalesAt);
        return;
    }
  }

  /** Fills values of a block from the memory. */
  private take(values: Block["k"], start: number, count: number, address: number): void {
    const size = values.BYTES_PER_ELEMENT;
    new Uint8Array(values.buffer, values.byteOffset + start * size, count * size).set(this.bytes.subarray(address, address + count * size));
  }

  private lay(values: Uint16Array | Int8Array, start: number, end: number): void {
    const size = values.BYTES_PER_ELEMENT;
    this.bytes.set(new Uint8Array(values.buffer, values.byteOffset + start * size, (end - start) * size), this.tileAt);
  }

  private layScales(scales: Float32Array, start: number, count: number): void {
    this.floats.set(scales.subarray(start, start + count), this.scalesAt / FLOAT_BYTES);
  }

  /** Cosines and sines of the positions of `[from, to)`; a `direction` of -1 turns back. */
  private layAngles(positions: Int32Array, from: number, to: number, direction: 1 | -1): void {
    const { half, cos, sin } = this.table;
    const { floats } = this;
    for (let token = from, at = 0; token < to; token++, at += 2 * half) {
      const row = positions[token]! * half;
      for (let i = 0; i < half; i++) {
        floats[at + i] = cos[row + i]!;
        floats[at + half + i] = direction * sin[row + i]!;
      }
    }
  }

  private addressOf(layer: number, part: "k" | "v", row: number): number {
    return this.layersAt + ((2 * layer + (part === "k" ? 0 : 1)) * this.capacity + row) * this.shape.width * FLOAT_BYTES;
  }

  private grow(tokens: number, bytes: number): void {
    const pages = Math.ceil((bytes - this.bytes.length) / PAGE_BYTES);
    if (pages <= 0) return;
    try {
      this.memory.grow(pages);
    } catch (cause) {
      const [needed, most] = [bytes, MAX_PAGES * PAGE_BYTES].map((each) => (each / 2 ** 30).toFixed(1));
      throw new KvspliceError("too_long", `The KV of ${tokens} tokens takes ${needed} GB of memory; it must be free, and at most ${most}. Use fewer or shorter documents.`, { cause });
    }
    this.bytes = new Uint8Array(this.memory.buffer);
    this.floats = new Float32Array(this.memory.buffer);
  }
}
