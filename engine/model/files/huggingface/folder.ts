import { createHash } from "node:crypto";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { KvspliceError } from "../../../../plan/index.js";
import { ENCODINGS } from "../../tensors/index.js";
import type { ModelFile, RawTensor, TensorInfo } from "../model-file.js";
import { Config } from "./config.js";
import { type Derived, type Fused, type FusedName, fusedName, readStored, stacked, unfused } from "./experts.js";
import { type Family, familyOf, metadataOf, tensorPlace } from "./families.js";
import { languageKeys } from "./language.js";
import { openSafetensors, type SafetensorsFile, type StoredTensor } from "./safetensors.js";

/** Part of the model's identity: raise it when the translation of folders changes. */
const TRANSLATION = "huggingface 1";

/** Values converted at a time. */
const CHUNK_VALUES = 1 << 20;

const INDEX = "model.safetensors.index.json";

/** Buffers in old checkpoints, whose values follow from the configuration. */
const BUFFERS = /\.(rotary_emb\.inv_freq|masked_bias|attn\.bias)$/;

/** The other parts of models that see pictures. */
const OTHER_PARTS = /^(model\.)?(vision_tower|vision_model|multi_modal_projector)\./;

/** A tensor under GGUF's name: as stored, with 1 added to each value if its family needs it; assembled from others; or made here. */
type Source =
  | { readonly kind: "stored"; readonly tensor: StoredTensor; readonly add: number }
  | { readonly kind: "derived"; readonly of: Derived }
  | { readonly kind: "made"; readonly values: Float32Array };

export function isFolder(path: string): boolean {
  return existsSync(join(path, "config.json"));
}

/**
 * Opens a Hugging Face folder: `config.json`, `tokenizer.json` and safetensors, read as the GGUF file that llama.cpp's
 * converter would make of it, except for the order of Q and K rows. Norms and biases are float32, as in GGUF files; matrices
 * are as stored.
 *
 * @throws KvspliceError `bad_model` for what is missing, unknown or unsupported
 */
export function openFolder(folder: string): ModelFile {
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
    return modelFileOf(folder, [join(folder, "config.json"), join(folder, "tokenizer.json"), ...shards], metadata, sources, close);
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
  close: () => void,
): ModelFile {
  const sourceOf = (name: string): Source => {
    const source = sources.get(name);
    if (!source) throw new KvspliceError("bad_model", `${path} has no tensor ${name}.`);
    return source;
  };
  const info = (name: string): TensorInfo => describe(name, sourceOf(name));
  let hash: Promise<string> | undefined;
  return {
    path,
    parts,
    origin: "huggingface",
    variant: TRANSLATION,
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
        // Read on access: a graph writer names all tensors, and packs them one by one.
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

/** Vectors are float32, as in GGUF files. */
function describe(name: string, source: Source): TensorInfo {
  switch (source.kind) {
    case "made":
      return { name, type: "F32", shape: [source.values.length] };
    case "derived":
      return { name, type: source.of.type, shape: source.of.shape };
    case "stored": {
      const { shape, type } = source.tensor;
      return { name, type: shape.length < 2 || source.add !== 0 ? "F32" : type, shape };
    }
  }
}

/** `count` values of a tensor from `from` on, in its own type or as float32. */
function convert(source: Source, type: RawTensor["type"], from: number, count: number): Uint8Array {
  if (source.kind === "made") return new Uint8Array(source.values.slice(from, from + count).buffer);
  if (source.kind === "derived") return source.of.read(from, count);
  const { tensor, add } = source;
  if (type === tensor.type && add === 0) return readStored(tensor, from, count);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < count; at += CHUNK_VALUES) {
    const length = Math.min(CHUNK_VALUES, count - at);
    const values = new Float32Array(length);
    ENCODINGS[tensor.type].read(readStored(tensor, from + at, length), 0, length, values);
    if (add !== 0) for (let i = 0; i < length; i++) values[i]! += add;
    parts.push(new Uint8Array(values.buffer));
  }
  return parts.length === 1 ? parts[0]! : new Uint8Array(Buffer.concat(parts));
}

function sourcesOf(files: readonly SafetensorsFile[], config: Config, family: Family, folder: string): Map<string, Source> {
  const tied = config.value("tie_word_embeddings") === true;
  const sources = new Map<string, Source>();
  const experts = new Map<string, StoredTensor[]>();
  const fused = new Map<string, { readonly name: FusedName; readonly of: Fused }>();
  for (const file of files) {
    for (const stored of file.names) {
      if (BUFFERS.test(stored) || OTHER_PARTS.test(stored)) continue;
      const plain = stored.replace(/^language_model\./, "").replace(/^model\.language_model\./, "model.");
      const part = family.fusedExperts ? fusedName(plain) : undefined;
      if (part) {
        const key = `${part.layer} ${part.part}`;
        const tensor = part.what === "blocks" || part.what === "scales" ? file.bytes(stored) : file.tensor(stored);
        fused.set(key, { name: part, of: { ...fused.get(key)?.of, [part.what]: tensor } });
        continue;
      }
      const place = tensorPlace(plain, family);
      if (place === undefined)
        throw new KvspliceError(
          "bad_model",
          `${folder} has ${stored}, which kvsplice does not use: answers would be wrong without it. Use another model.`,
        );
      const { name, expert } = place;
      if (name === "output.weight" && tied) continue;
      const tensor = file.tensor(stored);
      const others = experts.get(name) ?? [];
      if (expert === undefined ? sources.has(name) : others[expert])
        throw new KvspliceError("bad_model", `${folder} has ${stored} twice. Download the model again.`);
      if (expert !== undefined) {
        others[expert] = tensor;
        experts.set(name, others);
        continue;
      }
      sources.set(name, { kind: "stored", tensor, add: family.normsLessOne && name.endsWith("norm.weight") ? 1 : 0 });
    }
  }
  for (const [name, tensors] of experts) sources.set(name, { kind: "derived", of: stacked(alike(tensors, name, folder)) });
  for (const { name, of } of fused.values()) {
    for (const [inside, made] of Object.entries(unfused(name.part, of)))
      sources.set(`blk.${name.layer}.${inside}`, { kind: "derived", of: made });
  }
  return sources;
}

/** One tensor for each expert. A gap means that a number in a name is out of range. */
function alike(tensors: readonly (StoredTensor | undefined)[], name: string, folder: string): readonly StoredTensor[] {
  const [first] = tensors;
  for (let expert = 0; expert < tensors.length; expert++) {
    const tensor = tensors[expert];
    if (!tensor) throw new KvspliceError("bad_model", `${folder} has no ${name} for expert ${expert}. Download the model again.`);
    if (tensor.type !== first!.type || String(tensor.shape) !== String(first!.shape))
      throw new KvspliceError("bad_model", `${folder} has experts of different shapes or types in ${name}, which is not supported.`);
  }
  return tensors as readonly StoredTensor[];
}

/** The files with the weights: one, or those that the index names. */
function shardsOf(folder: string): readonly string[] {
  const index = join(folder, INDEX);
  if (!existsSync(index)) {
    const single = join(folder, "model.safetensors");
    if (existsSync(single)) return [single];
    const other = ["pytorch_model.bin", "pytorch_model.bin.index.json"].find((name) => existsSync(join(folder, name)));
    throw new KvspliceError(
      "bad_model",
      `${folder} has no model.safetensors${other ? `, but ${other}: such files can run programs and are not read. Convert it to safetensors` : ": download it, too"}.`,
    );
  }
  const map = readJson(index)["weight_map"];
  if (typeof map !== "object" || map === null) throw new KvspliceError("bad_model", `${index} has no weight_map. Download it again.`);
  const names = [...new Set(Object.values(map as Record<string, unknown>))];
  const unsound = names.find((name) => typeof name !== "string" || basename(name) !== name);
  if (names.length === 0 || unsound !== undefined)
    throw new KvspliceError("bad_model", `${index} does not name files in this folder. Download it again.`);
  return (names as string[]).sort().map((name) => join(folder, name));
}

/** @throws KvspliceError `bad_model` for an embedding or classifying model, with the reason */
function mustGenerate(config: Config, folder: string): void {
  const architectures = config.value("architectures");
  const named = Array.isArray(architectures) ? architectures.map(String) : [];
  const pooled = ["modules.json", "1_Pooling"].find((name) => existsSync(join(folder, name)));
  const why = pooled ?? named.find((name) => !/(ForCausalLM|ForConditionalGeneration|LMHeadModel)$/.test(name));
  if (why !== undefined)
    throw new KvspliceError(
      "bad_model",
      `${folder} is an embedding or classifying model (${why}), which does not generate text. Give a model that does.`,
    );
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
    throw new KvspliceError(
      "bad_model",
      `${path} ${existsSync(path) ? "is not JSON: download it again" : "is missing: download it, too"}.`,
      { cause },
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new KvspliceError("bad_model", `${path} is not a JSON object. Download it again.`);
  return value as Readonly<Record<string, unknown>>;
}
