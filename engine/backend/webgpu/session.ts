import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { env, InferenceSession } from "../../../runtime/index.js";
import { makeFolder, storageError } from "../../../storage/index.js";
import { type LoadProgress, timed } from "../../load-progress.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { modelName } from "../../model/files/name.js";
import type { ModelSpec } from "../../model/spec.js";
import type { Activations } from "../cpu/activations.js";
import { whileBuilding } from "../cpu/build.js";
import { type Purpose, writeDecoder } from "../cpu/decoder.js";
import { areGraphsSound, DEVICE_FILES, graphsFolder, WEIGHTS_FILE, writeManifest } from "../cpu/graph-folder.js";
import { bytesOfWeight, GraphWriter, type WeightPlace } from "../cpu/onnx.js";
import type { ProductType } from "../cpu/product-type.js";
import { WeightsFile } from "../cpu/weights-file.js";
import { writeBatchAttention } from "./attention.js";
import { needsNoMask, PROMPT_SLOTS, writeLooks, writePromptAttention } from "./prompt-attention.js";

/** Raise it with every change to what the device's graphs compute. */
const GRAPHS_VERSION = 5;

export type DeviceGraphOptions = {
  readonly file: ModelFile;
  readonly spec: ModelSpec;
  /** The name of the processor's graphs of the model: `graphId`. */
  readonly id: string;
  readonly cacheDir: string;
  readonly activations: Activations;
  /** The type of the numbers in linear layers; everything else is float32. */
  readonly products: ProductType;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
};

/** A graph of a model for the device. */
export type DeviceFile = (typeof DEVICE_FILES)[number];

/** What each of the graphs is for. */
function purposesOf({ layers }: ModelSpec, products: ProductType): Readonly<Record<DeviceFile, Purpose>> {
  const prompts = (slots: number, masked: boolean): Purpose => ({
    kind: "remote",
    products,
    attention: writePromptAttention({ slots, masked }),
  });
  return {
    "prompt.onnx": prompts(1, false),
    "masked.onnx": prompts(1, true),
    "several.onnx": prompts(PROMPT_SLOTS, !needsNoMask(layers)),
    "looks.onnx": { kind: "remote", products, ...writeLooks() },
    "blocks.onnx": { kind: "batch", products, attention: writeBatchAttention },
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
  const { file, id, products, cacheDir, onProgress } = options;
  const name = createHash("sha256").update(`${id} webgpu ${products} ${GRAPHS_VERSION}`).digest("hex");
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
async function build(folder: string, { file, spec, activations, products, onProgress }: DeviceGraphOptions): Promise<void> {
  const draft = await mkdtemp(`${folder}.draft-`);
  try {
    const made = join(draft, "built");
    await mkdir(made);
    let places: readonly WeightPlace[] | undefined;
    for (const name of DEVICE_FILES) {
      const graph = new GraphWriter();
      writeDecoder(graph, file, spec, activations, purposesOf(spec, products)[name]);
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
