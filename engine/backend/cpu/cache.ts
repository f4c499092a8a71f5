import { KvspliceError, keptRuns, type Range } from "../../../plan/index.js";
import { type Block, blockFits, emptyBlock, GROUP_TOKENS, type Precision } from "../../kv/block.js";
import { type KvForm, widthOf } from "../../kv/form.js";
import type { RotaryTable } from "../../kv/rotary.js";
import type { Cache } from "../backend.js";
import { LayerMemory, type LayerRange, layersByMemory, MEMORY_BYTES } from "./layer-memory.js";

/** Size of the tile in which stored rows wait for their kernel: small enough for the processor's second-level cache. */
const TILE_BYTES = 1 << 17;
const FLOAT_BYTES = 4;

/**
 * The KV cache of one running prompt: per layer `[length, heads, head_size]`, K after the rotary embedding, and the
 * position of each row. Spliced blocks and later tokens share one buffer, so that a pass reads one tensor per
 * layer, and the graph writes new rows in place after it.
 *
 * Its rows are in WebAssembly memories: one, or several (by layer) if they do not fit in one.
 */
export class KvCache implements Cache {
  private rowCount = 0;
  private room = 0;
  private rowPositions = new Int32Array(0);
  private memories: LayerMemory[];
  /** Tokens spliced at a time. */
  private readonly tile: number;

  /** @param tables one for each kind of rotary embedding in the form */
  constructor(
    private readonly form: KvForm,
    private readonly tables: readonly RotaryTable[],
  ) {
    const rowBytes = Math.max(...form.layers.map(widthOf)) * FLOAT_BYTES;
    this.tile = Math.min(GROUP_TOKENS, Math.max(1, Math.floor(TILE_BYTES / rowBytes)));
    this.memories = [new LayerMemory(form, [0, form.layers.length], tables)];
  }

  get length(): number {
    return this.rowCount;
  }

  /** Rows that fit in its memory. */
  get capacity(): number {
    return this.room;
  }

  /** Positions of the rows, `[length]`: a view of the cache's own memory, valid until it grows. */
  get positions(): Int32Array {
    return this.rowPositions.subarray(0, this.rowCount);
  }

  /**
   * Makes room for `tokens` rows in total; what is cached stays. Earlier views from `rows` become invalid.
   * @throws KvspliceError `too_long` if there is not enough memory for them
   */
  reserve(tokens: number): void {
    if (tokens <= this.room) return;
    let capacity = Math.max(tokens, Math.ceil(this.room * 1.5));
    let ranges = layersByMemory(this.form, capacity);
    if (!ranges) ranges = layersByMemory(this.form, (capacity = tokens));
    if (!ranges) {
      const most = (MEMORY_BYTES / 2 ** 30).toFixed(0);
      throw new KvspliceError(
        "too_long",
        `The KV of ${tokens} tokens takes more than ${most} GiB of memory in one layer. Use fewer or shorter documents.`,
      );
    }
    const stays = ranges.length === this.memories.length && ranges.every(([first], i) => first === this.memories[i]!.range[0]);
    if (stays) for (const memory of this.memories) memory.reserve(capacity, this.rowCount);
    else this.memories = ranges.map((range) => this.moved(range, capacity));
    const positions = new Int32Array(capacity);
    positions.set(this.positions);
    this.rowPositions = positions;
    this.room = capacity;
  }

  /**
   * Rows `[from, to)` of a layer, `[to - from, heads, head_size]` each: a view of the cache's own memory, valid until it grows. Those
   * after `length` are space for a pass to write into: call `reserve` first.
   */
  rows(layer: number, from: number, to: number): { k: Float32Array; v: Float32Array } {
    return this.memoryOf(layer).rows(layer, from, to);
  }

  /** Adopts the rows that a pass wrote after the cached ones; `positions` are theirs. */
  append(positions: readonly number[]): void {
    this.rowPositions.set(positions, this.rowCount);
    this.rowCount += positions.length;
  }

  /** Keeps only the first `length` rows. */
  truncate(length: number): void {
    this.rowCount = Math.min(length, this.rowCount);
  }

  /** Leaves its memory to the garbage collector. */
  free(): void {
    this.memories = [];
    this.rowCount = this.room = 0;
  }

  /**
   * Splices a block: re-encodes the K of token i for `positions[i]`, leaving out tokens within `omit`. A tile of stored
   * rows is copied into the memory, and is widened, rotated and written to its place in one loop. Layers without rotary
   * embedding are only widened.
   */
  splice(block: Block, positions: Int32Array, omit: readonly Range[] = []): void {
    if (!blockFits(this.form, positions.length, block))
      throw new Error(`A block of ${block.tokens} tokens and ${block.layers.length} layers does not fit the model.`);
    const runs = keptRuns(block.tokens, omit);
    this.reserve(this.length + runs.reduce((sum, [start, end]) => sum + end - start, 0));
    for (const [start, end] of runs) {
      for (let from = start; from < end; ) {
        // A tile is within one group of tokens, whose K channels have one scale each.
        const to = Math.min(end, from + this.tile, GROUP_TOKENS * (Math.floor(from / GROUP_TOKENS) + 1));
        const at = positions.subarray(from, to);
        for (const memory of this.memories) {
          memory.layAngles(at, 1);
          for (let layer = memory.range[0]; layer < memory.range[1]; layer++) memory.splice(block, layer, from, to, this.rowCount);
        }
        this.rowPositions.set(at, this.rowCount);
        this.rowCount += to - from;
        from = to;
      }
    }
  }

  /** Rows `[from, to)` as a block: each row's K without the rotary embedding of its position. The cache is unchanged. */
  extract(from: number, to: number, precision: Precision): Block {
    const block = emptyBlock(this.form.layers, to - from, precision);
    for (let start = 0; start < block.tokens; start += GROUP_TOKENS) {
      const end = Math.min(block.tokens, start + GROUP_TOKENS);
      for (const memory of this.memories) {
        memory.layAngles(this.rowPositions.subarray(from + start, from + end), -1);
        for (let layer = memory.range[0]; layer < memory.range[1]; layer++) memory.extract(block, layer, start, end, from + start);
      }
    }
    return block;
  }

  private memoryOf(layer: number): LayerMemory {
    return this.memories.find(({ range }) => layer < range[1])!;
  }

  /** A separate memory for some layers, with their present rows. */
  private moved(range: LayerRange, capacity: number): LayerMemory {
    const memory = new LayerMemory(this.form, range, this.tables);
    memory.reserve(capacity, 0);
    for (let layer = range[0]; layer < range[1] && this.rowCount > 0; layer++) {
      const [own, there] = [this.rows(layer, 0, this.rowCount), memory.rows(layer, 0, this.rowCount)];
      there.k.set(own.k);
      there.v.set(own.v);
    }
    return memory;
  }
}
