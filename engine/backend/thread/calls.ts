import type { Range } from "../../../plan/index.js";
import type { Block, Precision } from "../../kv/block.js";
import type { PassPart } from "../backend.js";
import type { CpuOptions } from "../cpu/backend.js";

/** A cache, by the number that it was created with. */
export type CacheNumber = number;

/** A part of a pass over one of the thread's caches. */
export type NumberedPart = Omit<PassPart, "cache"> & { readonly cache: CacheNumber };

/** What the thread of a model does: the calls of `Backend` and `Cache`. It reports the progress of `open` (`LoadProgress`). */
export type ModelCalls = {
  open(options: Omit<CpuOptions, "onProgress">): Promise<void>;
  create(cache: CacheNumber): void;
  free(cache: CacheNumber): void;
  reserve(given: { readonly cache: CacheNumber; readonly tokens: number }): void;
  /** The block's arrays may be in shared memory. */
  splice(given: {
    readonly cache: CacheNumber;
    readonly block: Block;
    readonly positions: Int32Array;
    readonly omit: readonly Range[];
  }): void;
  extract(given: { readonly cache: CacheNumber; readonly from: number; readonly to: number; readonly precision: Precision }): Block;
  truncate(given: { readonly cache: CacheNumber; readonly length: number }): void;
  widen(given: undefined): void;
  /** The logits of each part, and the number of parts per pass from now on. */
  run(parts: readonly NumberedPart[]): Promise<{ readonly logits: Float32Array[]; readonly slots: number }>;
  look(given: { readonly part: NumberedPart; readonly asks: readonly number[] }): Promise<Float32Array>;
  close(given: undefined): Promise<void>;
};
