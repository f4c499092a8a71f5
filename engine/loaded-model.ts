import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { adapterInputs } from "./backend/cpu/adapter.js";
import { CpuBackend } from "./backend/cpu/backend.js";
import { Embedding } from "./backend/cpu/embedding.js";
import { DEFAULT_ACTIVATIONS, type Activations } from "./backend/cpu/linear.js";
import { PassRunner } from "./backend/cpu/pass.js";
import { arithmeticOf, graphId, openSessions } from "./backend/cpu/session.js";
import { Engine, type Model } from "./engine.js";
import { DEFAULT_PRECISION, type Precision } from "./kv/block.js";
import { blockKey, type BlockIdentity } from "./kv/identity.js";
import { RotaryTable } from "./kv/rotary.js";
import { readAdapter } from "./model/adapter/index.js";
import { cardAt } from "./model/card.js";
import { readSpec } from "./model/arch/index.js";
import { modelName } from "./model/files/name.js";
import type { ModelFile } from "./model/files/model-file.js";
import { openModelFile, type Quantization } from "./model/files/open.js";
import { defaultModelPath, languageOf } from "./model/language.js";
import { defaultCacheDir } from "./cache-dir.js";
import { contentHash } from "./content-hash.js";
import type { LoadProgress } from "./load-progress.js";

export type LoadOptions = {
  /** A GGUF file, any part of a split one, or a Hugging Face folder; the model that kvsplice carries when left out. */
  readonly path?: string;
  /** How the matrices of a Hugging Face folder are kept; 8 bits (`q8`) when left out. A GGUF file stays as it is. */
  readonly quantize?: Quantization | undefined;
  /** Positions that the model is used with; as many as it was trained on when left out. */
  readonly contextLength?: number | undefined;
  /** `int8` (default) quantises activations on the way into each linear layer; `float32` does not, and is slower. */
  readonly activations?: Activations;
  /** How blocks are kept, and a part of their key; `int8` when left out. docs/precision.md says what each costs. */
  readonly precision?: Precision;
  /**
   * A low-rank adapter: a folder or file of PEFT's, or a GGUF file of llama.cpp's. One that says that it is for encoding
   * acts on blocks that say `adapted`, and leaves the answering model as it is; others act on every pass.
   */
  readonly adapter?: string;
  /** Threads of one pass; all cores when left out. */
  readonly threads?: number;
  /** Where the built graph is kept; the user's cache folder when left out. */
  readonly cacheDir?: string;
  /** Told how far loading is, several times a second where it takes longer. */
  readonly onProgress?: (progress: LoadProgress) => void;
};

/**
 * Loads a model.
 * @throws KvspliceError `bad_model` if the file cannot be read or is not of a supported kind.
 */
export async function loadModel(options: LoadOptions = {}): Promise<Model> {
  const path = options.path ?? (await defaultModelPath());
  const file = openModelFile(path, options);
  try {
    return await modelOf(path, file, options);
  } catch (error) {
    file.close();
    throw error;
  }
}

async function modelOf(path: string, file: ModelFile, options: LoadOptions): Promise<Model> {
  const spec = readSpec(file, options);
  const adapter = options.adapter === undefined ? undefined : await readAdapter(options.adapter);
  const own = { ...(await languageOf(path, file.metadata)), contextLength: spec.contextLength };
  // An adapter was trained with prompts of its own card.
  const language = { ...own, card: (adapter && (await cardAt(join(folderOf(adapter.path), CARD)))) ?? own.card };
  const activations = options.activations ?? DEFAULT_ACTIVATIONS;
  const cacheDir = options.cacheDir ?? defaultCacheDir();
  const weights = await contentHash(file, cacheDir, options.onProgress);
  const id = graphId(weights, spec, activations);
  const rotaries = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
  const sessions = await openSessions(id, file, spec, {
    cacheDir,
    activations,
    onProgress: options.onProgress,
    ...(options.threads !== undefined && { threads: options.threads }),
  });
  const acting = adapter && { where: adapter.where, inputs: adapterInputs(spec, adapter) };
  const backend = new CpuBackend(sessions, new PassRunner(sessions, spec, rotaries, new Embedding(file)), rotaries, async () => file.close(), acting);
  const precision = options.precision ?? DEFAULT_PRECISION;
  const adapted: Pick<BlockIdentity, "adapter" | "encodingAdapter"> | undefined = adapter && (adapter.where === "both" ? { adapter: adapter.id } : { encodingAdapter: adapter.id });
  const identity = { weights, variant: spec.variant, arithmetic: arithmeticOf(activations), precision, ...adapted };
  const name = modelName(path, file.metadata);
  return new Engine({
    id: adapter ? createHash("sha256").update(`${id} ${adapter.id}`).digest("hex") : id,
    name: adapter ? `${name} with ${basename(adapter.path)}` : name,
    language,
    backend,
    precision,
    encodingAdapter: adapted?.encodingAdapter,
    keyOf: (source) => blockKey(identity, source),
  });
}

/** Name of the card in an adapter's folder. */
const CARD = "card.json";

function folderOf(path: string): string {
  return statSync(path).isDirectory() ? path : dirname(path);
}
