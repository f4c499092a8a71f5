import { createHash } from "node:crypto";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { KvspliceError } from "../../../../plan/index.js";
import { readFully } from "../../../../storage/index.js";
import { ENCODINGS } from "../../tensors/index.js";
import { quantize, QUANTIZED_GROUP } from "../../tensors/quantize.js";
import { Config } from "./config.js";
import { languageKeys } from "./language.js";
import type { ModelFile, RawTensor, TensorInfo } from "../model-file.js";
import { bytesOfFloats, openSafetensors, type SafetensorsFile, type StoredTensor } from "./safetensors.js";
import { familyOf, metadataOf, tensorName, type Family } from "./families.js";

/** How the matrices of a folder are kept: quantised when they are read, or as they are. */
export type Quantization = "q4" | "q8" | "none";

export const QUANTIZATIONS: readonly Quantization[] = ["q4", "q8", "none"];

export const DEFAULT_QUANTIZATION: Quantization = "q8";

/** A part of the model's identity: to be raised when a folder is translated otherwise. */
const TRANSLATION = "huggingface 1";

/** Values that are converted at a time. */
const CHUNK_VALUES = 1 << 20;

const INDEX = "model.safetensors.index.json";

/** Tensors that q4 keeps in 8 bits: each is a tenth of a model, and what is lost there is lost in every token. */
const KEPT_IN_8_BITS = new Set(["token_embd.weight", "output.weight"]);

/** Buffers that old checkpoints carry, which follow from the configuration. */
const BUFFERS = /\.(rotary_emb\.inv_freq|masked_bias|attn\.bias)$/;

/** Other parts of models that see pictures. */
const OTHER_PARTS = /^(model\.)?(vision_tower|vision_model|multi_modal_projector)\./;

/** A tensor in GGUF's name: as it is stored, with 1 added to each value where its family keeps it so, or made here. */
type Source = { readonly kind: "stored"; readonly tensor: StoredTensor; readonly add: number } | { readonly kind: "made"; readonly values: Float32Array };

export function isFolder(path: string): boolean {
  return existsSync(join(path, "config.json"));
}

/**
 * Opens a Hugging Face folder: `config.json`, `tokenizer.json` and safetensors, read as the GGUF file that llama.cpp's
 * converter would make of it, but for the order of Q and K rows. Quantised, matrices are Q8_0, or with `q4` Q4_0 where
 * they are not the embedding or the head; norms and biases stay floats, and so does a matrix whose rows are no multiple of
 * 32 long.
 *
 * @throws KvspliceError `bad_model` for what is missing, unknown or not computed
 */
export function openFolder(folder: string, quantization: Quantization = DEFAULT_QUANTIZATION): ModelFile {
  const config = new Config(join(folder, "config.json"), readJson(join(folder, "config.json")));
  mustGenerate(config, folder);
  const family = familyOf(config);
  const { keys, tensors: made } = metadataOf(config, family);
  const language = languageKeys(folder, config);
  const shards = shardsOf(folder);
  const files: SafetensorsFile[] = [];
  const close = () => files.forEach((file) => file.close());
  try {
    for (const shard of shards) files.push(openSafetensors(shard));
    const sources = sourcesOf(files, config, family, folder);
    for (const [name, values] of Object.entries(made)) sources.set(name, { kind: "made", values });
    const metadata = { "general.architecture": family.architecture, "general.name": basename(resolve(folder)), ...keys, ...language };
    return modelFileOf(folder, [join(folder, "config.json"), join(folder, "tokenizer.json"), ...shards], metadata, sources, quantization, close);
  } catch (error) {
    close();
    throw error;
  }
}

function modelFileOf(
  path: string,
  parts: readonly string[],
  metadata: ModelFile["metadata"],
  sources: ReadonlyMap<string, Source>,
  quantization: Quantization,
  close: () => void,
): ModelFile {
  const sourceOf = (name: string): Source => {
    const source = sources.get(name);
    if (!source) throw new KvspliceError("bad_model", `${path} has no tensor ${name}.`);
    return source;
  };
  const info = (name: string): TensorInfo => describe(name, sourceOf(name), quantization);
  let hash: Promise<string> | undefined;
  return {
    path,
    parts,
    origin: "huggingface",
    variant: `${TRANSLATION} ${quantization}`,
    metadata,
    names: () => sources.keys(),
    has: (name) => sources.has(name),
    info,
    tensor(name) {
      const { type, shape } = info(name);
      return {
        name,
        type,
        shape,
        // Quantised when they are looked at: who writes a graph names all tensors, and packs one by one.
        get bytes() {
          return convert(sourceOf(name), type, 0, elementsOf(shape));
        },
      };
    },
    rows(name, from, count) {
      const { type, shape } = info(name);
      const columns = shape.at(-1)!;
      return {
        name,
        type,
        shape: [count, columns],
        get bytes() {
          return convert(sourceOf(name), type, from * columns, count * columns);
        },
      };
    },
    contentHash: () => (hash ??= hashOf(parts)),
    close,
  };
}

/** Vectors are float32, as in GGUF files; matrices what was asked for. */
function describe(name: string, source: Source, quantization: Quantization): TensorInfo {
  if (source.kind === "made") return { name, type: "F32", shape: [source.values.length] };
  const { shape, type } = source.tensor;
  if (shape.length < 2 || source.add !== 0) return { name, type: "F32", shape };
  if (quantization === "none" || shape.at(-1)! % QUANTIZED_GROUP !== 0) return { name, type, shape };
  return { name, type: quantization === "q8" || KEPT_IN_8_BITS.has(name) ? "Q8_0" : "Q4_0", shape };
}

/** So many values of a tensor from one on, as the type has them; a quantised type's begin and end with whole rows. */
function convert(source: Source, type: RawTensor["type"], from: number, count: number): Uint8Array {
  if (source.kind === "made") return new Uint8Array(source.values.slice(from, from + count).buffer);
  const { tensor, add } = source;
  if (type === tensor.type && add === 0) return readStored(tensor, from, count);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < count; at += CHUNK_VALUES) {
    const length = Math.min(CHUNK_VALUES, count - at);
    const values = new Float32Array(length);
    ENCODINGS[tensor.type].read(readStored(tensor, from + at, length), 0, length, values);
    if (add !== 0) for (let i = 0; i < length; i++) values[i]! += add;
    parts.push(type === "F32" ? new Uint8Array(values.buffer) : quantize(values, type as "Q8_0" | "Q4_0"));
  }
  return parts.length === 1 ? parts[0]! : new Uint8Array(Buffer.concat(parts));
}

function readStored({ file, path, type, offset }: StoredTensor, from: number, count: number): Uint8Array {
  const bytes = readFully(file, offset + bytesOfFloats(type, from), bytesOfFloats(type, count));
  if (!bytes) throw new KvspliceError("bad_model", `${path} became shorter while it was open. Copy the file again.`);
  return bytes;
}

function sourcesOf(files: readonly SafetensorsFile[], config: Config, family: Family, folder: string): Map<string, Source> {
  const tied = config.value("tie_word_embeddings") === true;
  const sources = new Map<string, Source>();
  for (const file of files) {
    for (const stored of file.names) {
      if (BUFFERS.test(stored) || OTHER_PARTS.test(stored)) continue;
      const plain = stored.replace(/^language_model\./, "").replace(/^model\.language_model\./, "model.");
      const name = tensorName(plain, family);
      if (name === undefined) throw new KvspliceError("bad_model", `${folder} has ${stored}, which kvsplice does not compute with; without it, answers would be wrong. Use another model.`);
      if (name === "output.weight" && tied) continue;
      if (sources.has(name)) throw new KvspliceError("bad_model", `${folder} has ${stored} twice. Download the model again.`);
      const tensor = file.tensor(stored);
      sources.set(name, { kind: "stored", tensor, add: family.normsLessOne && name.endsWith("norm.weight") ? 1 : 0 });
    }
  }
  return sources;
}

/** The weights' files: one, or those that the index names. */
function shardsOf(folder: string): readonly string[] {
  const index = join(folder, INDEX);
  if (!existsSync(index)) {
    const single = join(folder, "model.safetensors");
    if (existsSync(single)) return [single];
    const other = ["pytorch_model.bin", "pytorch_model.bin.index.json"].find((name) => existsSync(join(folder, name)));
    throw new KvspliceError("bad_model", `${folder} has no model.safetensors${other ? `, but ${other}: such files can run programs, and are not read. Convert it to safetensors` : ": download it, too"}.`);
  }
  const map = readJson(index)["weight_map"];
  if (typeof map !== "object" || map === null) throw new KvspliceError("bad_model", `${index} has no weight_map. Download it again.`);
  const names = [...new Set(Object.values(map as Record<string, unknown>))];
  const unsound = names.find((name) => typeof name !== "string" || basename(name) !== name);
  if (names.length === 0 || unsound !== undefined) throw new KvspliceError("bad_model", `${index} names no files of this folder. Download it again.`);
  return (names as string[]).sort().map((name) => join(folder, name));
}

/** @throws KvspliceError `bad_model` for an embedding or classifying model, by what says so */
function mustGenerate(config: Config, folder: string): void {
  const architectures = config.value("architectures");
  const named = Array.isArray(architectures) ? architectures.map(String) : [];
  const pooled = ["modules.json", "1_Pooling"].find((name) => existsSync(join(folder, name)));
  const why = pooled ?? named.find((name) => !/(ForCausalLM|ForConditionalGeneration|LMHeadModel)$/.test(name));
  if (why !== undefined) throw new KvspliceError("bad_model", `${folder} is an embedding or classifying model (${why}), which writes no text. Give a model that answers.`);
}

async function hashOf(paths: readonly string[]): Promise<string> {
  const whole = createHash("sha256");
  for (const path of paths) {
    const hash = createHash("sha256");
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
    whole.update(`${basename(path)} ${hash.digest("hex")}\n`);
  }
  return whole.digest("hex");
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

function readJson(path: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new KvspliceError("bad_model", `${path} ${existsSync(path) ? "is not JSON: download it again" : "is missing: download it, too"}.`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new KvspliceError("bad_model", `${path} is not an object of JSON. Download it again.`);
  return value as Readonly<Record<string, unknown>>;
}
