import { KvspliceError, sizeText } from "../../../plan/index.js";
import type { ModelSpec } from "../../model/spec.js";
import { LONGEST_BLOCK, MOST_TOKENS } from "./batch.js";
import { needsNoMask } from "./prompt-attention.js";
import type { DeviceGraphOptions } from "./session.js";

/** Prompts' KV on a device must have room for this many tokens, or answers are not computed there. */
const LEAST_ROWS = 1024;

/**
 * Tokens that the processor and a device encode, to be compared: devices have separate kernels for 32 and more at once. A pass must
 * have room for them.
 */
export const SAMPLE_TOKENS = 48;

/** How much a device's memory has room for, in addition to the weights. */
export type Room = {
  /** Tokens of one pass over blocks, including padding. */
  readonly mostTokens: number;
  /** Bytes of prompts' KV and blocks: no limit if undefined, and with 0 the device does not answer. */
  readonly kvBytes: number | undefined;
  /** Whether there is room for the session over several prompts. */
  readonly several: boolean;
};

/**
 * Shares a device's memory between encoding and answering; encoding has all of it if answering would not fit as well.
 * @param memory bytes that may be used; no limit if undefined
 * @param weightsBytes which each session has
 * @throws KvspliceError `bad_argument` if there is not even enough for encoding
 */
export function roomWithin(
  {
    spec,
    able,
    memory,
    answers = false,
  }: Pick<DeviceGraphOptions, "spec" | "able"> & { memory?: number | undefined; answers?: boolean | undefined },
  weightsBytes: number,
): Room {
  if (memory === undefined) return { mostTokens: MOST_TOKENS, kvBytes: answers ? undefined : 0, several: true };
  const most = (bytes: number) => Math.min(MOST_TOKENS, Math.floor(bytes / bytesOfToken(spec)));
  // For blocks, a prompt, what it attends to, and a prompt with a mask.
  const sessions = needsNoMask(spec.layers, able.fused) ? 4 : 3;
  for (const several of answers ? [true, false] : []) {
    const half = (memory - (several ? sessions + 1 : sessions) * weightsBytes) / 2;
    const mostTokens = most(half);
    if (mostTokens >= SAMPLE_TOKENS && half >= LEAST_ROWS * kvBytesOf(spec)) return { mostTokens, kvBytes: half, several };
  }
  const mostTokens = most(memory - weightsBytes);
  if (mostTokens >= SAMPLE_TOKENS) return { mostTokens, kvBytes: 0, several: false };
  const pass = SAMPLE_TOKENS * bytesOfToken(spec);
  const message = `The weights of ${spec.name} take ${sizeText(weightsBytes)} of the device's memory, and the smallest pass ${sizeText(pass)}, but only ${sizeText(memory)} may be used.`;
  throw new KvspliceError("bad_argument", `${message} Raise --device-memory, use a smaller quantisation, or encode on the processor.`);
}

/** Bytes of the KV of one token on a device. */
export function kvBytesOf({ layers }: ModelSpec): number {
  return Float32Array.BYTES_PER_ELEMENT * layers.reduce((sum, { attention: { kvHeads, headSize } }) => sum + 2 * kvHeads * headSize, 0);
}

/** Copies of a pass's KV that packing it in 8 bits makes at once, in addition to the KV itself. */
const PACKING = 4;

/** The most memory that a token of a pass takes on the device: several rows of the widest layer at once, and the KV of all layers. */
function bytesOfToken(spec: ModelSpec): number {
  const { hidden, layers } = spec;
  const widest = Math.max(
    ...layers.map(({ attention: { heads, headSize }, feedForward: { width } }) => Math.max(4 * heads * headSize, 4 * width)),
  );
  const scores = 3 * Math.max(...layers.map(({ attention: { heads } }) => heads)) * LONGEST_BLOCK;
  return Float32Array.BYTES_PER_ELEMENT * (4 * hidden + widest + scores) + (1 + PACKING) * kvBytesOf(spec);
}
