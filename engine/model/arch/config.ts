import { KvspliceError } from "../../../plan/index.js";
import type { ModelFile, ModelMetadata } from "../files/model-file.js";

/** The shape of a Llama-like decoder, as its GGUF metadata tells it. */
export type ModelConfig = {
  readonly architecture: string;
  readonly name: string;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  /** Positions that the model was trained on. */
  readonly contextLength: number;
  readonly rotaryBase: number;
  readonly normEpsilon: number;
  /** Whether Q and K rows lie in llama.cpp's interleaved order (pairs side by side) instead of halves. */
  readonly interleavedRows: boolean;
  /** Whether the head is the token embedding. */
  readonly tiedEmbedding: boolean;
};

/** Architectures whose block is RMSNorm, grouped-query attention with rotary embedding, and a SiLU-gated feed-forward. */
const LLAMA_SHAPED: Record<string, { interleavedRows: boolean }> = {
  llama: { interleavedRows: true },
  qwen2: { interleavedRows: false },
};

/** What the kernels of the splice take. */
const MIN_HEAD_SIZE = 16;

/** @throws KvspliceError `bad_model` for another architecture or missing metadata. */
export function readConfig(file: ModelFile): ModelConfig {
  const architecture = String(file.metadata["general.architecture"]);
  const known = LLAMA_SHAPED[architecture];
  if (!known) {
    throw new KvspliceError("bad_model", `Architecture "${architecture}" is not supported; use a model of ${Object.keys(LLAMA_SHAPED).join(" or ")}.`);
  }
  const number = (key: string, fallback?: number): number => numberOf(file.metadata, key, fallback);
  const scaling = file.metadata[`${architecture}.rope.scaling.type`];
  if (scaling !== undefined && scaling !== "none") {
    throw new KvspliceError("bad_model", `Rotary scaling "${String(scaling)}" is not supported; use a model without it.`);
  }
  const heads = number("attention.head_count");
  const hidden = number("embedding_length");
  const headSize = number("attention.key_length", hidden / heads);
  if (number("rope.dimension_count", headSize) !== headSize) {
    throw new KvspliceError("bad_model", "Models that rotate a part of each head are not supported.");
  }
  if (headSize < MIN_HEAD_SIZE || headSize % 2 !== 0) {
    throw new KvspliceError("bad_model", `Heads of ${headSize} dimensions are not supported; use a model with an even number from ${MIN_HEAD_SIZE}.`);
  }
  return {
    architecture,
    name: String(file.metadata["general.name"] ?? architecture),
    layers: number("block_count"),
    hidden,
    heads,
    kvHeads: number("attention.head_count_kv", heads),
    headSize,
    feedForward: number("feed_forward_length"),
    vocabulary: file.info("token_embd.weight").shape[0]!,
    contextLength: readContextLength(file.metadata),
    rotaryBase: number("rope.freq_base", 10000),
    normEpsilon: number("attention.layer_norm_rms_epsilon"),
    interleavedRows: known.interleavedRows,
    tiedEmbedding: !file.has("output.weight"),
  };
}

/** Positions that the model was trained on. @throws KvspliceError `bad_model` where the file does not say */
export function readContextLength(metadata: ModelMetadata): number {
  return numberOf(metadata, "context_length");
}

function numberOf(metadata: ModelMetadata, key: string, fallback?: number): number {
  const name = `${String(metadata["general.architecture"])}.${key}`;
  const value = metadata[name] ?? fallback;
  if (typeof value !== "number") throw new KvspliceError("bad_model", `The model file lacks ${name}. Convert the model to GGUF again.`);
  return value;
}
