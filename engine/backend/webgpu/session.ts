import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { KvspliceError } from "../../../plan/index.js";
import { env, InferenceSession } from "../../../runtime/index.js";
import { makeFolder, storageError } from "../../../storage/index.js";
import { type LoadProgress, timed } from "../../load-progress.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { modelName } from "../../model/files/name.js";
import type { ModelSpec } from "../../model/spec.js";
import type { Activations } from "../cpu/activations.js";
import { whileBuilding } from "../cpu/build.js";
import { writeDecoder } from "../cpu/decoder.js";
import { areGraphsSound, DEVICE_FILES, graphsFolder, WEIGHTS_FILE, writeManifest } from "../cpu/graph-folder.js";
import { bytesOfWeight, GraphWriter, type WeightPlace } from "../cpu/onnx.js";
import { WeightsFile } from "../cpu/weights-file.js";
import { writeBatchAttention } from "./attention.js";
import { LONGEST_BLOCK, MOST_TOKENS } from "./batch.js";

/** Raise it with every change to what the device's graph computes. */
const BATCH_VERSION = 1;

export type BatchSessionOptions = {
  readonly file: ModelFile;
  readonly spec: ModelSpec;
  /** The name of the processor's graphs of the model: `graphId`. */
  readonly id: string;
  readonly cacheDir: string;
  readonly activations: Activations;
  /** Bytes of the device's memory that may be used; no limit if omitted. */
  readonly memory?: number | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
};

/** A session on the device, and how many tokens of a pass fit in memory. */
export type BatchSession = { readonly session: InferenceSession; readonly mostTokens: number };

/**
 * Opens a session that encodes batches of blocks on the device. Its graph and weights, in the device's form, are built once and
 * kept in `cacheDir`.
 * @throws KvspliceError `bad_argument` if the model is larger than the memory, `bad_store` if its files cannot be stored
 */
export async function openBatchSession(options: BatchSessionOptions): Promise<BatchSession> {
  const folder = await built(options);
  const mostTokens = tokensWithin(options, statSync(join(folder, WEIGHTS_FILE)).size);
  const session = await InferenceSession.create(join(folder, DEVICE_FILES[0]), {
    executionProviders: ["webgpu"],
    enableMemPattern: false,
    logSeverityLevel: 3, // shapes are always computed on the processor, which it would warn about
  });
  return { session, mostTokens };
}

/** Tokens of one pass that fit in memory in addition to the weights. */
function tokensWithin({ spec, memory }: BatchSessionOptions, weightsBytes: number): number {
  if (memory === undefined) return MOST_TOKENS;
  const tokens = Math.floor((memory - weightsBytes) / bytesOfToken(spec));
  if (tokens >= 1) return Math.min(tokens, MOST_TOKENS);
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
  const message = `The weights of ${spec.name} take ${gigabytes(weightsBytes)} of the device's memory, but only ${gigabytes(memory)} may be used.`;
  throw new KvspliceError("bad_argument", `${message} Raise --device-memory, use a smaller quantisation, or encode on the processor.`);
}

/** The most memory that a token of a pass takes on the device: several rows of the widest layer at once, and the KV of all layers. */
function bytesOfToken({ hidden, layers }: ModelSpec): number {
  const kv = layers.reduce((sum, { attention: { kvHeads, headSize } }) => sum + 2 * kvHeads * headSize, 0);
  const widest = Math.max(
    ...layers.map(({ attention: { heads, headSize }, feedForward: { width } }) => Math.max(4 * heads * headSize, 4 * width)),
  );
  const scores = 3 * Math.max(...layers.map(({ attention: { heads } }) => heads)) * LONGEST_BLOCK;
  return Float32Array.BYTES_PER_ELEMENT * (4 * hidden + widest + kv + scores);
}

async function built(options: BatchSessionOptions): Promise<string> {
  const { file, id, cacheDir, onProgress } = options;
  const name = createHash("sha256").update(`${id} webgpu ${BATCH_VERSION}`).digest("hex");
  const folder = join(graphsFolder(cacheDir), `${name}-onnxruntime-${env.versions.node}`);
  const isSound = () => areGraphsSound(folder, "sampled", DEVICE_FILES);
  if (await isSound()) return folder;
  const waits = () => onProgress?.({ step: "wait", done: 0, total: 0, remaining_ms: undefined });
  try {
    makeFolder(graphsFolder(cacheDir), "Set KVSPLICE_CACHE_DIR to another folder.");
    await whileBuilding(folder, async () => ((await isSound()) ? undefined : build(folder, options)), waits);
  } catch (cause) {
    throw storageError(cause, `the device's graph of ${file.path} into ${cacheDir}`, "set KVSPLICE_CACHE_DIR to a folder with enough room");
  }
  return folder;
}

/** Writes graph and weights to a temporary place and renames them: they appear complete or not at all. */
async function build(folder: string, { file, spec, activations, onProgress }: BatchSessionOptions): Promise<void> {
  const graph = new GraphWriter();
  writeDecoder(graph, file, spec, activations, { kind: "batch", attention: writeBatchAttention });
  const draft = await mkdtemp(`${folder}.draft-`);
  try {
    const made = join(draft, "built");
    await mkdir(made);
    const places = new Map<string, WeightPlace>();
    const weights = new WeightsFile(join(made, WEIGHTS_FILE));
    try {
      const tell = timed("build", onProgress);
      const total = graph.groups.flatMap((group) => group.weights).reduce((sum, info) => sum + bytesOfWeight(info), 0);
      for (const { weights: infos, make } of graph.groups) {
        tell(weights.size, total);
        const values = make();
        infos.forEach(({ name }, i) => void places.set(name, { offset: weights.append(values[i]!), length: values[i]!.byteLength }));
      }
      weights.sync();
      tell(total, total);
    } finally {
      weights.close();
    }
    await writeFile(
      join(made, DEVICE_FILES[0]),
      graph.encode(WEIGHTS_FILE, ({ name }) => places.get(name)!),
    );
    await writeManifest(made, DEVICE_FILES, modelName(file.path, file.metadata), []);
    await rm(folder, { recursive: true, force: true });
    await rename(made, folder);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
