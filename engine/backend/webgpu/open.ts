import { KvspliceError } from "../../../plan/index.js";
import type { Block } from "../../kv/block.js";
import type { LoadProgress } from "../../load-progress.js";
import type { Backend } from "../backend.js";
import type { EncoderOptions } from "./calls.js";
import { DeviceEncoder } from "./device-encoder.js";
import { mustHave, type Wanted } from "./lack.js";
import { type DeviceChoice, surveyDevices } from "./survey.js";
import { trial } from "./trial.js";

export type DeviceOptions = Wanted & {
  readonly device: DeviceChoice;
  readonly encoder: EncoderOptions;
  /** Number of tokens of text that the processor and the device must encode in the same way. */
  readonly sample: readonly number[];
  /** Called with a sentence if `auto` chooses the processor, and if the device fails. */
  readonly onNotice: (notice: string) => void;
  readonly onProgress: ((progress: LoadProgress) => void) | undefined;
};

/**
 * Root mean square of the difference of a block's K, and of its V, between the device and the processor, relative to that of the
 * processor's. Above this the device is not used. docs/gpu.md has the measurements.
 */
export const TOLERANCE = 0.2;

/**
 * Opens an encoder of blocks on the chosen device; undefined if that is the processor.
 * @throws KvspliceError `bad_argument` if `webgpu` was requested but cannot be used
 */
export async function openDeviceEncoder(backend: Backend, options: DeviceOptions): Promise<DeviceEncoder | undefined> {
  const { device, onNotice } = options;
  switch (device) {
    case "cpu":
      return undefined;
    case "webgpu":
      return opened(backend, options);
    case "auto":
      try {
        mustHave(options);
        const { chosen, reason } = await surveyDevices();
        if (chosen === "webgpu") return await opened(backend, options);
        onNotice(`Documents are encoded on the processor. ${reason}`);
      } catch (error) {
        if (!(error instanceof KvspliceError)) throw error;
        onNotice(`Documents are encoded on the processor. ${error.message}`);
      }
      return undefined;
  }
}

async function opened(backend: Backend, { device, encoder: options, sample, onNotice, onProgress }: DeviceOptions) {
  const tried = device === "auto" ? undefined : await trial("webgpu"); // the survey of `auto` has already tried it
  if (tried && "error" in tried) throw unusable(tried.error);
  const encoder = await DeviceEncoder.open(options, onNotice, onProgress).catch((error: unknown) => {
    throw error instanceof KvspliceError ? error : unusable((error as Error).message);
  });
  try {
    await mustAgree(backend, encoder, sample);
    return encoder;
  } catch (error) {
    await encoder.close();
    throw error;
  }
}

function unusable(why: string): KvspliceError {
  return new KvspliceError(
    "bad_argument",
    `WebGPU does not work here: ${why}. kvsplice devices lists what is available; --device cpu encodes on the processor.`,
  );
}

/** A driver that computes something else would corrupt the store. */
async function mustAgree(backend: Backend, encoder: DeviceEncoder, tokens: readonly number[]): Promise<void> {
  const positions = [...tokens.keys()];
  const found = await encoder.encode({ tokens, positions, from: 0 }, { precision: "float32", signal: new AbortController().signal });
  if (found === undefined) throw unusable("it failed to encode the first block");
  const cache = backend.createCache();
  try {
    await cache.reserve(tokens.length);
    await backend.run([{ cache, tokens, positions, logits: 0 }]);
    const difference = differenceOf(await cache.extract(0, tokens.length, "float32"), found);
    if (difference > TOLERANCE)
      throw new KvspliceError(
        "bad_argument",
        `The device's KV differs from the processor's by ${(100 * difference).toFixed(0)} %, but rounding explains at most ${100 * TOLERANCE} %. Another version of its driver may be correct; use --device cpu.`,
      );
  } finally {
    cache.free();
  }
}

/** The larger of K's and V's root mean square difference, relative to the first block's. */
export function differenceOf(one: Block, other: Block): number {
  return Math.max(
    ...(["k", "v"] as const).map((name) => {
      let [wrong, all] = [0, 0];
      one[name].forEach((value, i) => {
        wrong += (value - other[name][i]!) ** 2;
        all += value ** 2;
      });
      return Math.sqrt(wrong / all);
    }),
  );
}
