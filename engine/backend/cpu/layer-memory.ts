import { KvspliceError } from "../../../plan/index.js";
import { type Block, GROUP_TOKENS } from "../../kv/block.js";
import { type KvForm, layerOffsets, widthOf } from "../../kv/form.js";
import type { RotaryTable } from "../../kv/rotary.js";
import { createKernels, type Kernels } from "./kernels.js";

const PAGE_BYTES = 1 << 16;
const MAX_PAGES = 1 << 16;
/** What a 32-bit address can reach. */
export const MEMORY_BYTES = PAGE_BYTES * MAX_PAGES;
const FLOAT_BYTES = 4;

/** Neighbouring layers, `[first, end)`. */
export type LayerRange = readonly [first: number, end: number];

/**
 * Divides layers into runs with one memory each: the fewest that have room for `capacity` rows of every layer.
 * @returns undefined if the rows of a single layer do not fit in a memory
 */
export function layersByMemory(form: KvForm, capacity: number): LayerRange[] | undefined {
  const ranges: LayerRange[] = [];
  for (let first = 0; first < form.layers.length; ) {
    let end = first;
    while (end < form.layers.length && bytesOf(form, [first, end + 1], capacity) <= MEMORY_BYTES) end++;
    if (end === first) return undefined;
    ranges.push([first, end]);
    first = end;
  }
  return ranges;
}

/** Bytes of memory for `capacity` rows of some layers. */
export function bytesOf(form: KvForm, range: LayerRange, capacity: number): number {
  const { widths } = layerOffsets(form.layers.slice(...range));
  return placesOf(form, range).layersAt + 2 * capacity * widths.at(-1)! * FLOAT_BYTES;
}

/** Where the parts of a memory begin; see `LayerMemory`. */
function placesOf({ layers }: KvForm, [first, end]: LayerRange) {
  const own = layers.slice(first, end);
  const [width, headSize, heads] = [
    Math.max(...own.map(widthOf)),
    Math.max(...own.map((layer) => layer.headSize)),
    Math.max(...own.map((layer) => layer.heads)),
  ];
  const kinds = [...new Set(own.map(({ rotary }) => rotary))];
  const rowBytes = width * FLOAT_BYTES;
  const anglesBytes = GROUP_TOKENS * headSize * FLOAT_BYTES;
  const scalesAt = kinds.length * anglesBytes;
  // K has one scale for each value of a row, V one for each head of each token.
  const tileAt = scalesAt + Math.max(rowBytes, GROUP_TOKENS * heads * FLOAT_BYTES);
  const outAt = tileAt + GROUP_TOKENS * rowBytes;
  const layersAt = outAt + GROUP_TOKENS * rowBytes;
  return { anglesAt: new Map(kinds.map((kind, i) => [kind, i * anglesBytes])), scalesAt, tileAt, outAt, layersAt };
}

/**
 * The cached rows of some neighbouring layers in one WebAssembly memory, where the kernels widen and re-encode stored
 * rows straight into their places:
 *
 *     angles of each kind of rotary | scales | tile | rows being extracted | layer: K [capacity, width], V | layer: ...
 */
export class LayerMemory {
  private readonly memory = new WebAssembly.Memory({ initial: 0, maximum: MAX_PAGES });
  private readonly kernels: readonly Kernels[];
  private readonly places: ReturnType<typeof placesOf>;
  /** Where each layer's K begins, in values per row of capacity. */
  private readonly before: readonly number[];
  /** For all layers of the model, as in a block. */
  private readonly offsets: ReturnType<typeof layerOffsets>;
  private capacity = 0;
  private bytes = new Uint8Array(0);
  private floats = new Float32Array(0);

  constructor(
    private readonly form: KvForm,
    readonly range: LayerRange,
    private readonly tables: readonly RotaryTable[],
  ) {
    const own = form.layers.slice(...range);
    this.places = placesOf(form, range);
    this.before = layerOffsets(own).widths;
    this.offsets = layerOffsets(form.layers);
    this.kernels = own.map((layer) => createKernels(this.memory, layer, layer.rotary === undefined ? 0 : tables[layer.rotary]!.half));
  }

  /** Makes room for `capacity` rows of each layer; the first `length` stay. Earlier views from `rows` become invalid. */
  reserve(capacity: number, length: number): void {
    this.grow(bytesOf(this.form, this.range, capacity));
    // Last layer first: each moves up, over what has already moved.
    const start = this.places.layersAt / FLOAT_BYTES;
    for (let layer = this.before.length - 2; layer >= 0; layer--) {
      const width = this.before[layer + 1]! - this.before[layer]!;
      for (const part of [1, 0]) {
        const place = (rows: number) => start + rows * (2 * this.before[layer]! + part * width);
        this.floats.copyWithin(place(capacity), place(this.capacity), place(this.capacity) + length * width);
      }
    }
    this.capacity = capacity;
  }

  /** Rows `[from, to)` of a layer, `[to - from, heads, head_size]` each: a view of the memory. */
  rows(layer: number, from: number, to: number): { k: Float32Array; v: Float32Array } {
    const length = (to - from) * this.widthAt(layer);
    const view = (part: "k" | "v") => {
      const start = this.addressOf(layer, part, from) / FLOAT_BYTES;
      return this.floats.subarray(start, start + length);
    };
    return { k: view("k"), v: view("v") };
  }

  /** Writes cosines and sines of some tokens' positions for `splice` and `extract`; a `direction` of -1 rotates back. */
  layAngles(positions: Int32Array, direction: 1 | -1): void {
    for (const [kind, start] of this.places.anglesAt) {
      if (kind === undefined) continue;
      const table = this.tables[kind]!;
      let at = start / FLOAT_BYTES;
      for (const position of positions) {
        this.floats.set(table.row(position), at);
        if (direction < 0) for (let i = at + table.half; i < at + 2 * table.half; i++) this.floats[i] = -this.floats[i]!;
        at += 2 * table.half;
      }
    }
  }

  /** Writes a block's tokens `[from, to)`, within one group of scales, of one layer, to its rows from `row` on. */
  splice(block: Block, layer: number, from: number, to: number, row: number): void {
    const { scalesAt, tileAt } = this.places;
    const kernels = this.kernels[layer - this.range[0]]!;
    const angles = this.anglesOf(layer);
    const { heads } = this.form.layers[layer]!;
    const [tokens, width] = [to - from, this.widthAt(layer)];
    const start = block.tokens * this.offsets.widths[layer]! + from * width;
    const end = start + tokens * width;
    const [k, v] = [this.addressOf(layer, "k", row), this.addressOf(layer, "v", row)];
    switch (block.precision) {
      case "float32":
        this.floats.set(block.k.subarray(start, end), tileAt / FLOAT_BYTES);
        kernels.rotate_float32(tileAt, k, angles, tokens);
        this.floats.set(block.v.subarray(start, end), v / FLOAT_BYTES);
        return;
      case "float16":
        this.lay(block.k, start, end);
        kernels.rotate_float16(tileAt, k, angles, tokens);
        this.lay(block.v, start, end);
        kernels.widen_float16(tileAt, v, tokens * heads);
        return;
      case "int8":
        this.lay(block.k, start, end);
        this.layScales(block.kScales, this.kScalesOf(block, layer, from), width);
        kernels.rotate_int8(tileAt, k, angles, tokens, scalesAt);
        this.lay(block.v, start, end);
        this.layScales(block.vScales, block.tokens * this.offsets.heads[layer]! + from * heads, tokens * heads);
        kernels.widen_int8(tileAt, v, tokens * heads, scalesAt);
        return;
    }
  }

  /** The reverse: rows from `row` on become tokens `[from, to)`, a group of scales, of one layer of the block. */
  extract(block: Block, layer: number, from: number, to: number, row: number): void {
    const { scalesAt, tileAt, outAt } = this.places;
    const kernels = this.kernels[layer - this.range[0]]!;
    const { heads } = this.form.layers[layer]!;
    const [tokens, width] = [to - from, this.widthAt(layer)];
    const start = block.tokens * this.offsets.widths[layer]! + from * width;
    const v = this.addressOf(layer, "v", row);
    kernels.rotate_float32(this.addressOf(layer, "k", row), tileAt, this.anglesOf(layer), tokens);
    switch (block.precision) {
      case "float32":
        this.take(block.k, start, tokens * width, tileAt);
        this.take(block.v, start, tokens * width, v);
        return;
      case "float16":
        kernels.narrow_float16(tileAt, outAt, tokens * heads);
        this.take(block.k, start, tokens * width, outAt);
        kernels.narrow_float16(v, outAt, tokens * heads);
        this.take(block.v, start, tokens * width, outAt);
        return;
      case "int8":
        this.floats.fill(0, scalesAt / FLOAT_BYTES, scalesAt / FLOAT_BYTES + width);
        kernels.narrow_int8_channels(tileAt, outAt, tokens, scalesAt);
        this.take(block.k, start, tokens * width, outAt);
        this.take(block.kScales, this.kScalesOf(block, layer, from), width, scalesAt);
        kernels.narrow_int8_rows(v, outAt, tokens * heads, scalesAt);
        this.take(block.v, start, tokens * width, outAt);
        this.take(block.vScales, block.tokens * this.offsets.heads[layer]! + from * heads, tokens * heads, scalesAt);
        return;
    }
  }

  /** Where the scales of a layer's K channels begin, for a token's group. */
  private kScalesOf({ tokens }: Block, layer: number, token: number): number {
    return Math.ceil(tokens / GROUP_TOKENS) * this.offsets.widths[layer]! + Math.floor(token / GROUP_TOKENS) * this.widthAt(layer);
  }

  /** Fills a block's values from the memory. */
  private take(values: Block["k"], start: number, count: number, address: number): void {
    const size = values.BYTES_PER_ELEMENT;
    new Uint8Array(values.buffer, values.byteOffset + start * size, count * size).set(this.bytes.subarray(address, address + count * size));
  }

  private lay(values: Uint16Array | Int8Array, start: number, end: number): void {
    const size = values.BYTES_PER_ELEMENT;
    this.bytes.set(new Uint8Array(values.buffer, values.byteOffset + start * size, (end - start) * size), this.places.tileAt);
  }

  private layScales(scales: Float32Array, start: number, count: number): void {
    this.floats.set(scales.subarray(start, start + count), this.places.scalesAt / FLOAT_BYTES);
  }

  private widthAt(layer: number): number {
    return this.offsets.widths[layer + 1]! - this.offsets.widths[layer]!;
  }

  private anglesOf(layer: number): number {
    return this.places.anglesAt.get(this.form.layers[layer]!.rotary)!;
  }

  private addressOf(layer: number, part: "k" | "v", row: number): number {
    const [own, width] = [layer - this.range[0], this.widthAt(layer)];
    return this.places.layersAt + (this.capacity * (2 * this.before[own]! + (part === "k" ? 0 : width)) + row * width) * FLOAT_BYTES;
  }

  private grow(bytes: number): void {
    const pages = Math.ceil((bytes - this.bytes.length) / PAGE_BYTES);
    if (pages <= 0) return;
    try {
      this.memory.grow(pages);
    } catch (cause) {
      throw new KvspliceError(
        "too_long",
        `There is no memory left for ${(bytes / 2 ** 30).toFixed(1)} GiB of KV. Use fewer or shorter documents, or free memory.`,
        { cause },
      );
    }
    this.bytes = new Uint8Array(this.memory.buffer);
    this.floats = new Float32Array(this.memory.buffer);
  }
}
