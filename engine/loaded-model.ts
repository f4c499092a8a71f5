import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { KvspliceError } from "../plan/index.js";
import { type Activations, DEFAULT_ACTIVATIONS } from "./backend/cpu/activations.js";
import { DEFAULT_ENCODING, type Encoding } from "./backend/cpu/encoding.js";
import { arithmeticOf, encoderId, graphId } from "./backend/cpu/identity.js";
import { type ModelThread, modelThread, ThreadBackend } from "./backend/thread/backend.js";
import { mustHave } from "./backend/webgpu/lack.js";
import { SAMPLE_TOKENS } from "./backend/webgpu/memory.js";
import { openDevices } from "./backend/webgpu/open.js";
import { DEFAULT_DEVICE, type DeviceChoice } from "./backend/webgpu/survey.js";
import { defaultCacheDir } from "./cache-dir.js";
import { CALIBRATION_TEXT, CALIBRATION_TOKENS } from "./calibration-text.js";
import { contentHash } from "./content-hash.js";
import { Engine, type Model } from "./engine.js";
import { DEFAULT_PRECISION, type Precision } from "./kv/block.js";
import { type BlockIdentity, blockKey } from "./kv/identity.js";
import type { LoadProgress } from "./load-progress.js";
import { type AdapterChoice, identityOf, readAdapters } from "./model/adapter/index.js";
import { readSpec } from "./model/arch/index.js";
import { cardAt } from "./model/card.js";
import type { ModelFile } from "./model/files/model-file.js";
import { modelName } from "./model/files/name.js";
import { openModelFile, type Quantization } from "./model/files/open.js";
import { defaultModelPath, languageOf } from "./model/language.js";

/** Which model is loaded, and how it computes. */
export type LoadOptions = {
  /** A GGUF file, any part of a split one, or a Hugging Face folder; the model that comes with kvsplice if omitted. */
  readonly path?: string;
  /** How float matrices are kept; if omitted, in 8 bits (`q8`) for a Hugging Face folder and as they are for a GGUF file. */
  readonly quantize?: Quantization | undefined;
  /** Positions that the model is used with; as many as it was trained on if omitted. */
  readonly contextLength?: number | undefined;
  /** `int8` (default) quantises the activations that enter each linear layer; `float32` does not, and is slower. */
  readonly activations?: Activations;
  /**
   * `exact` (default) encodes blocks the way answers are computed. `w8a8` encodes in 8 bits: several times faster on processors
   * that multiply bytes, with slightly different KV (docs/precision.md). It is part of the model's id and of blocks' keys.
   */
  readonly encoding?: Encoding | undefined;
  /**
   * What encodes blocks and computes answers: `cpu` (default), `webgpu`, or `auto`, which uses a graphics processor if
   * `surveyDevices` would choose it. Blocks are the same except for rounding and have the same keys (docs/gpu.md).
   */
  readonly device?: DeviceChoice | undefined;
  /** Whether the device also computes answers (default), which takes its weights' memory once more, or the processor does. */
  readonly answerOn?: "device" | "cpu" | undefined;
  /** Bytes of the device's memory that may be used; a larger model is refused. No limit if omitted. */
  readonly deviceMemory?: number | undefined;
  /** Called with a sentence if `auto` chooses the processor, and if a device fails, for which the processor takes over. */
  readonly onNotice?: ((notice: string) => void) | undefined;
  /** How blocks are stored, which is part of their key; `int8` if omitted. docs/precision.md gives the cost of each. */
  readonly precision?: Precision;
  /**
   * Low-rank adapters that act together. One that is for encoding acts on blocks marked `adapted` and leaves the answering
   * model unchanged; others act on every pass. The first that has a card sets the model's card. None by default.
   */
  readonly adapters?: readonly AdapterChoice[];
  /** Threads for one pass; all cores if omitted. */
  readonly threads?: number;
  /** Where the built graph is kept; the user's cache folder if omitted. */
  readonly cacheDir?: string;
  /** Called, and awaited, with the model's identity before its graph is built, which is slow the first time. A throw skips the build. */
  readonly onIdentified?: ((model: Pick<Model, "id" | "name" | "encoding">) => void | Promise<void>) | undefined;
  /** Called with the progress of loading, several times a second if it takes longer. */
  readonly onProgress?: (progress: LoadProgress) => void;
};

/**
 * Loads a model.
 *
 *     await using model = await loadModel(); // the model that comes with kvsplice
 *     await using other = await loadModel({ path: "Qwen2.5-0.5B-Instruct-Q4_K_M.gguf", contextLength: 8_192 });
 *
 * @throws KvspliceError `bad_model` if the file cannot be read or its kind is not supported, `bad_argument` if the device
 *   cannot compute this model.
 */
export async function loadModel(options: LoadOptions = {}): Promise<Model> {
  const path = options.path ?? (await defaultModelPath());
  const thread = modelThread(basename(path), options.onProgress); // starts while the files are read here
  try {
    const file = openModelFile(path, options);
    try {
      return await modelOf(path, file, thread, options);
    } finally {
      file.close();
    }
  } catch (error) {
    await thread.close();
    throw error;
  }
}

async function modelOf(path: string, file: ModelFile, thread: ModelThread, options: LoadOptions): Promise<Model> {
  const spec = readSpec(file, options);
  const adapters = await readAdapters(options.adapters ?? []);
  const own = await languageOf(path, file.metadata);
  const {
    activations = DEFAULT_ACTIVATIONS,
    cacheDir = defaultCacheDir(),
    precision = DEFAULT_PRECISION,
    encoding = DEFAULT_ENCODING,
    device = DEFAULT_DEVICE,
    deviceMemory,
    answerOn = "device",
    quantize,
    threads,
    onProgress,
    onNotice = () => undefined,
  } = options;
  if (device === "cpu" && (deviceMemory !== undefined || options.answerOn !== undefined)) {
    const option = deviceMemory === undefined ? "--answer-on" : "--device-memory";
    throw new KvspliceError("bad_argument", `${option} is for graphics processors. Add --device webgpu or --device auto, or leave it out.`);
  }
  const weights = await contentHash(file, cacheDir, onProgress);
  const graph = graphId(weights, spec, activations);
  const encoded = encoding === "exact" ? graph : encoderId(graph);
  const ofFile = modelName(path, file.metadata);
  const identity = {
    id:
      adapters.length > 0
        ? createHash("sha256")
            .update(`${encoded} ${identityOf(adapters)}`)
            .digest("hex")
        : encoded,
    name: adapters.length > 0 ? `${ofFile} with ${adapters.map(({ name }) => name).join(" and ")}` : ofFile,
    encoding,
  };
  await options.onIdentified?.(identity);
  if (device === "webgpu") mustHave({ spec, adapters, encoding, activations });
  const calibration = encoding === "exact" ? undefined : own.tokenizer.encode(CALIBRATION_TEXT).slice(0, CALIBRATION_TOKENS);
  const processor = await ThreadBackend.open(thread, {
    path,
    quantize,
    spec,
    id: graph,
    adapters,
    calibration,
    cacheDir,
    activations,
    threads,
  });
  const { backend, encoder } = await openDevices(processor, {
    device,
    spec,
    adapters,
    encoding,
    activations,
    thread: { path, quantize, spec, id: graph, cacheDir, activations, memory: deviceMemory, answers: answerOn === "device" },
    sample: own.tokenizer.encode(CALIBRATION_TEXT).slice(0, SAMPLE_TOKENS),
    onNotice,
    onProgress,
  });
  // An adapter was trained on prompts that follow its own card.
  const cards = await Promise.all((options.adapters ?? []).map((adapter) => cardAt(join(folderOf(adapter.path), CARD))));
  const card = cards.find(Boolean) ?? own.card;
  const always = adapters.filter(({ where }) => where === "both");
  const encodingAdapter = always.length < adapters.length ? identityOf(adapters) : undefined;
  const ofBlocks: BlockIdentity = {
    weights,
    variant: spec.variant,
    arithmetic: arithmeticOf(activations, encoding),
    precision,
    adapter: identityOf(always),
    encodingAdapter,
  };
  return new Engine({
    ...identity,
    language: { ...own, contextLength: spec.contextLength, card },
    backend,
    encoder,
    precision,
    adapters: adapters.map(({ name, id, where }) => ({ name, id, where })),
    encodingAdapter,
    keyOf: (source) => blockKey(ofBlocks, source),
  });
}

/** Name of the card in an adapter's folder. */
const CARD = "card.json";

function folderOf(path: string): string {
  return statSync(path).isDirectory() ? path : dirname(path);
}
