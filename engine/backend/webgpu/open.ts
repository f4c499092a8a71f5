import { KvspliceError } from "../../../plan/index.js";
import { Thread } from "../../../runtime/thread.js";
import type { Block } from "../../kv/block.js";
import type { LoadProgress } from "../../load-progress.js";
import type { Backend, BlockEncoder } from "../backend.js";
import { type DeviceCalls, type DeviceThread, type DeviceThreadOptions, deviceTurns, type HostCalls } from "./calls.js";
import { DeviceBackend } from "./device-backend.js";
import { DeviceEncoder } from "./device-encoder.js";
import { mustHave, type Wanted } from "./lack.js";
import { kvBytesOf } from "./memory.js";
import { PromptDevice } from "./prompt-device.js";
import { type DeviceChoice, surveyDevices } from "./survey.js";
import { trial } from "./trial.js";
import type { Computes } from "./trial-passes.js";

export type DeviceOptions = Wanted & {
  readonly device: DeviceChoice;
  readonly thread: Omit<DeviceThreadOptions, "able" | "adapters">;
  /** Number of tokens of text that the processor and the device must encode in the same way. */
  readonly sample: readonly number[];
  /** Called with a sentence if `auto` chooses the processor, and if the device fails. */
  readonly onNotice: (notice: string) => void;
  readonly onProgress: ((progress: LoadProgress) => void) | undefined;
};

/** What computes a model: `backend` answers, and `encoder` encodes blocks, if that is not the backend. */
export type Devices = { readonly backend: Backend; readonly encoder: BlockEncoder | undefined };

/**
 * Root mean square of the difference of a block's K, and of its V, between the device and the processor, relative to that of the
 * processor's. Above this the device is not used. docs/gpu.md has the measurements.
 */
export const TOLERANCE = 0.2;

/**
 * What computes on the chosen device.
 * @param processor the model's backend on the processor, which does what the device cannot
 * @throws KvspliceError `bad_argument` if `webgpu` was requested but cannot be used
 */
export async function openDevices(processor: Backend, options: DeviceOptions): Promise<Devices> {
  const { device, onNotice } = options;
  const alone = { backend: processor, encoder: undefined };
  switch (device) {
    case "cpu":
      return alone;
    case "webgpu": {
      const tried = await trial("webgpu");
      if ("error" in tried) throw unusable(tried.error);
      return opened(processor, tried, options);
    }
    case "auto":
      try {
        mustHave(options);
        const { chosen, reason, trials } = await surveyDevices();
        if (chosen === "webgpu") return await opened(processor, trials.webgpu as Computes, options);
        onNotice(`Everything is computed on the processor. ${reason}`);
      } catch (error) {
        if (!(error instanceof KvspliceError)) throw error;
        onNotice(`Everything is computed on the processor. ${error.message}`);
      }
      return alone;
  }
}

async function opened(processor: Backend, tried: Computes, options: DeviceOptions): Promise<Devices> {
  const { spec, adapters, onNotice } = options;
  const prompts = adapters.filter(({ where }) => where === "both");
  const acting = { blocks: adapters, prompts };
  const onlyAdapted = prompts.length < adapters.length;
  const program = new URL("./program.js", import.meta.url);
  const thread = new Thread<DeviceCalls>(program, `computing ${spec.name} on the device`, options.onProgress);
  const host = new Thread<HostCalls>(new URL("./host-program.js", import.meta.url), `preparing passes of ${spec.name}`);
  try {
    const { room, graph } = await deviceTurns(() =>
      thread.ask("open", { ...options.thread, able: { type: tried.type, fused: tried.fused }, adapters: acting }),
    ).catch((error: unknown) => {
      throw error instanceof KvspliceError ? error : unusable((error as Error).message);
    });
    const { path, quantize } = options.thread;
    await host.ask("open", { path, quantize, spec, graph });
    let device: PromptDevice | undefined;
    const encoder = new DeviceEncoder(
      { device: thread, host },
      { mostTokens: room.mostTokens, onlyAdapted, isAnswering: () => device?.isOpen ?? false, onNotice, onLost: () => device?.giveUp() },
    );
    const ofBlocks = await computedBlock(processor, options.sample, true);
    await mustAgree(ofBlocks, encoder, options.sample);
    if (!options.thread.answers) return { backend: processor, encoder };
    if (room.kvBytes === 0) {
      onNotice("Answers are computed on the processor: the device's memory has no room for prompts besides encoding.");
      return { backend: processor, encoder };
    }
    const expected = onlyAdapted ? await computedBlock(processor, options.sample, false) : ofBlocks;
    const check = () => mustAnswerAlike(thread, options.sample, expected);
    device = new PromptDevice(thread, kvBytesOf(spec), room, check, onNotice);
    return { backend: new DeviceBackend(device, processor, onlyAdapted), encoder };
  } catch (error) {
    await Promise.all([thread.close(), host.close()]);
    throw error;
  }
}

function unusable(why: string): KvspliceError {
  return new KvspliceError(
    "bad_argument",
    `WebGPU does not work here: ${why}. kvsplice devices lists what is available; --device cpu computes on the processor.`,
  );
}

/** The tokens' block, computed on the processor, with its encoding adapters or without. */
async function computedBlock(processor: Backend, tokens: readonly number[], adapted: boolean): Promise<Block> {
  const cache = processor.createCache();
  try {
    await cache.reserve(tokens.length);
    await processor.run([{ cache, tokens, positions: [...tokens.keys()], logits: 0, adapted }]);
    return await cache.extract(0, tokens.length, "float32");
  } finally {
    cache.free();
  }
}

/** A driver that computes something else would corrupt the store. */
async function mustAgree(expected: Block, encoder: BlockEncoder, tokens: readonly number[]): Promise<void> {
  const item = { tokens, positions: [...tokens.keys()], from: 0 };
  const found = await encoder.encode(item, { precision: "float32", signal: new AbortController().signal, adapted: true });
  if (found === undefined) throw unusable("it failed to encode the first block");
  mustBeNear(expected, found);
}

/** Computes the tokens in a prompt, most of them at once and one after them, and splices their block into another. */
async function mustAnswerAlike(thread: DeviceThread, tokens: readonly number[], expected: Block): Promise<void> {
  const rows = tokens.length;
  const positions = [...tokens.keys()];
  const [computed, spliced, block] = [-1, -2, -1];
  await thread.ask("reserve", { prompt: computed, rows });
  for (const [from, to] of [
    [0, rows - 1],
    [rows - 1, rows],
  ] as const)
    await thread.ask("run", [
      { prompt: computed, tokens: tokens.slice(from, to), positions: positions.slice(from, to), visible: undefined, logits: 1 },
    ]);
  mustBeNear(expected, await thread.ask("extract", { prompt: computed, from: 0, to: rows, precision: "float32" }));
  await thread.ask("upload", { number: block, block: expected });
  await thread.ask("reserve", { prompt: spliced, rows });
  await thread.ask("splice", { prompt: spliced, splices: [{ block, positions: Int32Array.from(positions), kept: [[0, rows]] }] });
  mustBeNear(expected, await thread.ask("extract", { prompt: spliced, from: 0, to: rows, precision: "float32" }));
  for (const prompt of [computed, spliced]) await thread.ask("free", prompt);
  await thread.ask("drop", block);
}

function mustBeNear(expected: Block, found: Block): void {
  const difference = differenceOf(expected, found);
  if (difference <= TOLERANCE) return;
  throw new KvspliceError(
    "bad_argument",
    `The device's KV differs from the processor's by ${(100 * difference).toFixed(0)} %, but rounding explains at most ${100 * TOLERANCE} %. Another version of its driver may be correct; use --device cpu.`,
  );
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
