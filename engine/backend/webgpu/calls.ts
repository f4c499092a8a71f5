import type { Block, Precision } from "../../kv/block.js";
import type { Quantization } from "../../model/files/open.js";
import type { BlockItem } from "../backend.js";
import type { BatchSessionOptions } from "./session.js";

/** The model's files are opened in the thread. */
export type EncoderOptions = Omit<BatchSessionOptions, "file" | "onProgress"> & {
  readonly path: string;
  readonly quantize: Quantization | undefined;
};

/** What the thread of a device does: the calls of `BatchEncoder`. It reports the progress of `open` (`LoadProgress`). */
export type EncoderCalls = {
  open(options: EncoderOptions): Promise<{ readonly mostTokens: number }>;
  encode(given: { readonly items: readonly BlockItem[]; readonly precision: Precision }): Promise<Block[]>;
  close(given: undefined): Promise<void>;
};
