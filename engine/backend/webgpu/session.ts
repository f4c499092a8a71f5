import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { env, InferenceSession } from "../../../runtime/index.js";
import { makeFolder, storageError } from "../../../storage/index.js";
import { type LoadProgress, timed } from "../../load-progress.js";
import { type Adapter, identityOf } from "../../model/adapter/index.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { modelName } from "../../model/files/name.js";
import type { ModelSpec } from "../../model/spec.js";
import type { Activations } from "../cpu/activations.js";
import { type Arithmetic, exactly } from "../cpu/arithmetic.js";
import { whileBuilding } from "../cpu/build.js";
import { type Purpose, writeDecoder } from "../cpu/decoder.js";
import { Embedding } from "../cpu/embedding.js";
import { areGraphsSound, DEVICE_FILES, graphsFolder, WEIGHTS_FILE, writeManifest } from "../cpu/graph-folder.js";
import { bytesOfWeight, GraphWriter, type WeightPlace } from "../cpu/onnx.js";
import { WeightsFile } from "../cpu/weights-file.js";
import { writeBatch } from "./attention.js";
import { byteLinear } from "./byte-linear.js";
import { needsNoMask, PROMPT_SLOTS, writeLooks, writePromptAttention } from "./prompt-attention.js";
import type { Abilities } from "./trial-passes.js";

/** Raise it with every change to what the device's graphs compute. */
const GRAPHS_VERSION = 9;

export type DeviceGraphOptions = {
  readonly file: ModelFile;
  readonly spec: ModelSpec;
  /** The name of the processor's graphs of the model: `graphId`. */
  readonly id: string;
  readonly cacheDir: string;
  readonly activations: Activations;
  /** Adapters that act on all passes: they become part of the weights. None if activations are float32. */
  readonly adapters: readonly Adapter[];
  /** What the device can do. Its type is not used if activations are float32. */
  readonly able: Abilities;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
};

/** A graph of a model for the device. */
export type DeviceFile = (typeof DEVICE_FILES)[number];

/**
 * The root mean square of embeddings in the residual stream, at most: float16 has another 2^24 above it, for the few numbers that some
 * models make very large, and norms can still take it back to 1.
 */
const EMBEDDED = 2 ** -8;

/** Weights are multiplied by this, and the norms before them divided: the scales of 8-bit codes would be too small for float16. */
const WEIGHTS = 2 ** 4;

/** With these float16 holds 262,144 and more, and the largest of a group of 128 may be 0.03 and still be rounded to 8 bits. */
const [ATTENDED, INNER] = [2 ** -3, 2 ** -2];

const SAMPLED_TOKENS = 256;

function arithmeticOf({ file, spec, activations, able, adapters }: DeviceGraphOptions): Arithmetic {
  if (activations === "float32") return exactly(activations);
  const tokens = Array.from({ length: SAMPLED_TOKENS }, (_, i) => Math.floor((i * spec.vocabulary) / SAMPLED_TOKENS));
  const sample = new Float32Array(tokens.length * spec.hidden);
  new Embedding(file).gather(tokens, sample);
  const size = spec.embedding.scale * Math.sqrt(sample.reduce((sum, value) => sum + value ** 2, 0) / sample.length);
  const residual = Math.min(1, 2 ** Math.round(Math.log2(EMBEDDED / size)));
  const scales = { residual, normed: 1 / WEIGHTS, attended: Math.max(residual, ATTENDED), inner: INNER };
  return { type: able.type, scales, multiply: byteLinear(adapters) };
}

/** What each of the graphs is for. */
function purposesOf(options: DeviceGraphOptions): Readonly<Record<DeviceFile, Purpose>> {
  const { spec, able } = options;
  const arithmetic = arithmeticOf(options);
  const prompts = (slots: number, masked: boolean): Purpose => ({
    kind: "remote",
    arithmetic,
    attention: writePromptAttention({ slots, masked, fused: able.fused }),
  });
  return {
    "prompt.onnx": prompts(1, false),
    "masked.onnx": prompts(1, true),
    "several.onnx": prompts(PROMPT_SLOTS, !needsNoMask(spec.layers, able.fused)),
    "looks.onnx": { kind: "remote", arithmetic, ...writeLooks(able.fused) },
    "blocks.onnx": { kind: "batch", arithmetic, ...writeBatch() },
  };
}

export const ON_DEVICE = {
  executionProviders: ["webgpu"],
  enableMemPattern: false,
  logSeverityLevel: 3, // shapes are always computed on the processor, which it would warn about
} as const satisfies InferenceSession.SessionOptions;

/** A model's graphs for the device, built once and kept in `cacheDir`. */
export type DeviceGraphs = {
  /** Bytes of the weights, which each session has on the device. */
  readonly weightsBytes: number;
  open(graph: DeviceFile): Promise<InferenceSession>;
};

/** @throws KvspliceError `bad_store` if the graphs and their weights, in the device's form, cannot be stored */
export async function deviceGraphs(options: DeviceGraphOptions): Promise<DeviceGraphs> {
  const folder = await built(options);
  return {
    weightsBytes: statSync(join(folder, WEIGHTS_FILE)).size,
    open: (graph) => InferenceSession.create(join(folder, graph), ON_DEVICE),
  };
}

async function built(options: DeviceGraphOptions): Promise<string> {
  const { file, id, able, adapters, cacheDir, onProgress } = options;
  const name = createHash("sha256")
    .update(`${id} webgpu ${able.type} ${able.fused} ${identityOf(adapters) ?? ""} ${GRAPHS_VERSION}`)
    .digest("hex");
  const folder = join(graphsFolder(cacheDir), `${name}-onnxruntime-${env.versions.node}`);
  const isSound = () => areGraphsSound(folder, "sampled", DEVICE_FILES);
  if (await isSound()) return folder;
  const waits = () => onProgress?.({ step: "wait", done: 0, total: 0, remaining_ms: undefined });
  try {
    makeFolder(graphsFolder(cacheDir), "Set KVSPLICE_CACHE_DIR to another folder.");
    await whileBuilding(folder, async () => ((await isSound()) ? undefined : build(folder, options)), waits);
  } catch (cause) {
    throw storageError(
      cause,
      `the device's graphs of ${file.path} into ${cacheDir}`,
      "set KVSPLICE_CACHE_DIR to a folder with enough room",
    );
  }
  return folder;
}

/** Writes graphs and weights to a temporary place and renames them: they appear complete or not at all. */
async function build(folder: string, options: DeviceGraphOptions): Promise<void> {
  const { file, spec, activations, onProgress } = options;
  const purposes = purposesOf(options);
  const draft = await mkdtemp(`${folder}.draft-`);
  try {
    const made = join(draft, "built");
    await mkdir(made);
    let places: readonly WeightPlace[] | undefined;
    for (const name of DEVICE_FILES) {
      const graph = new GraphWriter();
      writeDecoder(graph, file, spec, activations, purposes[name]);
      places ??= placeWeights(join(made, WEIGHTS_FILE), graph, timed("build", onProgress));
      const infos = graph.groups.flatMap(({ weights }) => weights);
      const own = new Map(infos.map((info, i) => [info.name, places![i]!]));
      await writeFile(
        join(made, name),
        graph.encode(WEIGHTS_FILE, (info) => own.get(info.name)!),
      );
    }
    await writeManifest(made, DEVICE_FILES, modelName(file.path, file.metadata), []);
    await rm(folder, { recursive: true, force: true });
    await rename(made, folder);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** Writes the weights of the first graph, which has all of them. */
function placeWeights(path: string, graph: GraphWriter, tell: (done: number, total: number) => void): WeightPlace[] {
  const places: WeightPlace[] = [];
  const weights = new WeightsFile(path);
  try {
    const total = graph.groups.flatMap((group) => group.weights).reduce((sum, info) => sum + bytesOfWeight(info), 0);
    for (const { make } of graph.groups) {
      tell(weights.size, total);
      for (const values of make()) places.push({ offset: weights.append(values), length: values.byteLength });
    }
    weights.sync();
    tell(total, total);
  } finally {
    weights.close();
  }
  return places;
}
