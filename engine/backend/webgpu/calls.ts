import pLimit from "p-limit";
import type { Range } from "../../../plan/index.js";
import type { Thread } from "../../../runtime/thread.js";
import type { Block, Precision } from "../../kv/block.js";
import type { Adapter } from "../../model/adapter/index.js";
import type { Quantization } from "../../model/files/open.js";
import type { PassPart } from "../backend.js";
import type { Batch } from "./batch-host.js";
import type { BatchGraph, BatchResults } from "./batch-session.js";
import type { Room } from "./memory.js";
import type { DeviceGraphOptions } from "./session.js";
import type { TensorData } from "./tensor-data.js";

/** The model's files are opened in the thread. */
export type DeviceThreadOptions = Omit<DeviceGraphOptions, "file" | "onProgress" | "adapters"> & {
  /** The adapters that act on blocks, and those that act on prompts. */
  readonly adapters: Record<"blocks" | "prompts", readonly Adapter[]>;
  readonly path: string;
  readonly quantize: Quantization | undefined;
  /** Bytes of the device's memory that may be used; no limit if omitted. */
  readonly memory?: number | undefined;
  /** Whether answers are computed there too, which takes memory. */
  readonly answers: boolean;
};

/** A pass over a batch (`BatchPass`), as it is sent to a thread. */
export type SentPass = { readonly feeds: Readonly<Record<string, TensorData>>; readonly wanted: readonly string[] };

/** Encoding, as far as the device does it. */
export type EncoderCalls = {
  /** How much there is room for, and the graph of a pass. */
  open(options: DeviceThreadOptions): Promise<{ readonly room: Room; readonly graph: BatchGraph }>;
  /** Runs a pass. `ms`: the time that it took. */
  encode(pass: SentPass): Promise<{ readonly results: BatchResults; readonly ms: number }>;
  close(given: undefined): Promise<void>;
};

/** Encoding, as far as the processor does it, in another thread than the device's, which is blocked by each pass. */
export type HostCalls = {
  open(options: Pick<DeviceThreadOptions, "path" | "quantize" | "spec"> & { readonly graph: BatchGraph }): void;
  prepare(batch: Batch): SentPass;
  /** The batch's blocks. */
  pack(given: { readonly batch: Batch; readonly results: BatchResults }): Block[];
};

/** A prompt's KV, or a block on the device, by the number that the owner gave it. */
export type Numbered = number;

/** A part of a pass over one of the device's prompts. */
export type NumberedPart = Pick<PassPart, "tokens" | "positions" | "visible" | "logits"> & { readonly prompt: Numbered };

export type PromptCalls = {
  /** Opens the sessions for passes over prompts. */
  answer(given: undefined): Promise<void>;
  /** Makes room for this many rows in total; a prompt begins with its first call. */
  reserve(given: { readonly prompt: Numbered; readonly rows: number }): Promise<void>;
  upload(given: { readonly number: Numbered; readonly block: Block }): Promise<void>;
  drop(number: Numbered): void;
  /** Splices blocks one after the other. There must be room for the tokens `kept`. */
  splice(given: {
    readonly prompt: Numbered;
    readonly splices: readonly { readonly block: Numbered; readonly positions: Int32Array; readonly kept: readonly Range[] }[];
  }): Promise<void>;
  /** Prepares passes over several prompts. */
  widen(given: undefined): Promise<void>;
  /** Logits for each part: see `PromptPasses.run`. There must be room for all tokens. */
  run(parts: readonly NumberedPart[]): Promise<Float32Array[]>;
  look(given: { readonly part: NumberedPart; readonly asks: readonly number[] }): Promise<Float32Array>;
  extract(given: { readonly prompt: Numbered; readonly from: number; readonly to: number; readonly precision: Precision }): Promise<Block>;
  truncate(given: { readonly prompt: Numbered; readonly length: number }): void;
  free(prompt: Numbered): void;
};

/** What the thread of a device does: the calls of `BatchSession` and `PromptPasses`. It reports the progress of `open` (`LoadProgress`). */
export type DeviceCalls = EncoderCalls & PromptCalls;

export type DeviceThread = Pick<Thread<DeviceCalls>, "ask">;

/** All models of a process take turns: their sessions record commands for one device, which they share. */
export const deviceTurns = pLimit(1);
