import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A tiny checkpoint of test/golden/folders.json. */
export type Checkpoint = {
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: Readonly<Record<string, readonly number[]>>;
};

export type FolderOptions = {
  /** The number of files that the weights are split into. */
  readonly shards?: number;
  readonly type?: "BF16" | "F16" | "F32";
  readonly template?: string;
  /** Additional byte tensors, in a separate file. */
  readonly codes?: Readonly<Record<string, { readonly shape: readonly number[]; readonly bytes: Uint8Array }>>;
};

/** Token texts: single bytes, and control tokens. */
const CONTROL = ["<|endoftext|>", "<|im_end|>", "<|im_start|>"];

/** Writes a Hugging Face folder whose weights are those of folders.py (see `fill` and `moments` there). */
export function writeFolder(
  folder: string,
  family: string,
  { config, tensors }: Checkpoint,
  { shards = 1, type = "BF16", template, codes }: FolderOptions = {},
): void {
  mkdirSync(folder, { recursive: true });
  const write = (name: string, value: unknown) => writeFileSync(join(folder, name), JSON.stringify(value));
  write("config.json", config);
  write("tokenizer.json", tokenizerJson());
  write("generation_config.json", { eos_token_id: [257, 256] });
  write("tokenizer_config.json", { bos_token: "<|endoftext|>", eos_token: { content: "<|im_end|>" }, add_bos_token: false });
  if (template !== undefined) writeFileSync(join(folder, "chat_template.jinja"), template);
  const names = Object.keys(tensors);
  const files = Array.from({ length: shards }, (_, shard) => names.filter((_, i) => i % shards === shard));
  const fileOf = (shard: number) => `model-${String(shard + 1).padStart(5, "0")}-of-${String(shards).padStart(5, "0")}.safetensors`;
  for (const [shard, names] of files.entries()) {
    const contents = names.map((name) => ({ name, shape: tensors[name]!, values: fill(name, tensors[name]!, family) }));
    writeFileSync(join(folder, shards === 1 ? "model.safetensors" : fileOf(shard)), encode(contents, type));
  }
  if (shards === 1 && !codes) return;
  const places = files.flatMap((names, shard) => names.map((name) => [name, shards === 1 ? "model.safetensors" : fileOf(shard)]));
  if (codes) {
    const entries = Object.entries(codes);
    writeFileSync(
      join(folder, "codes.safetensors"),
      encodeBytes(entries.map(([name, { shape, bytes }]) => ({ name, shape, type: "U8", bytes }))),
    );
    places.push(...entries.map(([name]) => [name, "codes.safetensors"]));
  }
  write("model.safetensors.index.json", { metadata: {}, weight_map: Object.fromEntries(places) });
}

function moments(name: string, shape: readonly number[], family: string): [mean: number, spread: number] {
  if (name.includes("norm")) return [family.startsWith("gemma") ? 0 : 1, 0.3];
  if (name.endsWith("bias")) return [0, 0.3];
  if (name.includes("embed_tokens")) return [0, 1];
  return [0, 2 / Math.sqrt(shape.at(-1)!)];
}

function fill(name: string, shape: readonly number[], family: string): Float32Array {
  const [mean, spread] = moments(name, shape, family);
  let seed = 0x811c9dc5;
  for (const byte of Buffer.from(name)) seed = Math.imul(seed ^ byte, 0x01000193);
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => {
    let x = (Math.imul(i, 0x9e3779b1) + seed) >>> 0;
    x ^= x >>> 16;
    x = Math.imul(x, 0x85ebca6b);
    x ^= x >>> 13;
    x = Math.imul(x, 0xc2b2ae35);
    x ^= x >>> 16;
    return roundToBf16(mean + ((x >>> 0) / 2 ** 31 - 1) * spread);
  });
}

const FLOAT = new Float32Array(1);
const BITS = new Uint32Array(FLOAT.buffer);

/** To nearest, ties to even. */
function roundToBf16(value: number): number {
  FLOAT[0] = value;
  BITS[0] = (BITS[0]! + 0x7fff + ((BITS[0]! >>> 16) & 1)) & 0xffff_0000;
  return FLOAT[0]!;
}

export type Content = { readonly name: string; readonly shape: readonly number[]; readonly values: Float32Array };

/** A safetensors file. */
export function encode(contents: readonly Content[], type: "BF16" | "F16" | "F32" = "F32"): Buffer {
  return encodeBytes(contents.map(({ name, shape, values }) => ({ name, shape, type, bytes: bytesOf(values, type) })));
}

function encodeBytes(
  contents: readonly { readonly name: string; readonly shape: readonly number[]; readonly type: string; readonly bytes: Uint8Array }[],
): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const { name, shape, type, bytes } of contents) {
    header[name] = { dtype: type, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...contents.map(({ bytes }) => bytes)]);
}

function bytesOf(values: Float32Array, type: "BF16" | "F16" | "F32"): Buffer {
  const floats = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  if (type === "F32") return floats;
  const out = Buffer.alloc(values.length * 2);
  if (type === "BF16") for (let i = 0; i < values.length; i++) out.writeUInt16LE(floats.readUInt16LE(4 * i + 2), 2 * i);
  else for (let i = 0; i < values.length; i++) out.writeUInt16LE(normalHalf(values[i]!), 2 * i);
  return out;
}

/** The half precision form of a number that half precision represents exactly: any bfloat16 from 2^-14 on. */
function normalHalf(value: number): number {
  if (Math.abs(value) < 2 ** -14) return value < 0 ? 0x8000 : 0;
  FLOAT[0] = value;
  return ((BITS[0]! >>> 16) & 0x8000) | (((BITS[0]! & 0x7fff_ffff) - 0x3800_0000) >>> 13);
}

/** A byte-level tokenizer without merges. */
function tokenizerJson(): unknown {
  const printable = [...range(33, 126), ...range(161, 172), ...range(174, 255)];
  const others = range(0, 255).filter((byte) => !printable.includes(byte));
  const bytes = [...printable.map((byte) => [byte, byte]), ...others.map((byte, i) => [byte, 256 + i])].sort((a, b) => a[0]! - b[0]!);
  const added = CONTROL.map((content, i) => ({
    id: 256 + i,
    content,
    special: true,
    lstrip: false,
    rstrip: false,
    single_word: false,
    normalized: false,
  }));
  return {
    version: "1.0",
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: Object.fromEntries(bytes.map(([, character], id) => [String.fromCharCode(character!), id])), merges: [] },
  };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
