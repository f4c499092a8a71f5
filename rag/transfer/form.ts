import { z } from "zod";

import { DEFAULT_ENCODING, ENCODINGS, PRECISIONS } from "../../engine/index.js";

/** Version of the export format, which docs/store-format.md describes. */
export const FORMAT = "kvsplice-corpus-1";

/** Tensors besides the blocks': float32 `[chunks, dimensions]`, and JSON, one object per line. */
export const VECTORS = "corpus.vectors";
export const RECORDS = "corpus.records";

/** Prefix of the names under which seals of blocks, vectors and records are stored. */
export const SEAL = "seal.";

/** The metadata that says how documents are linked. */
export const LINK = "link";

/** The name that the seal of vectors, records or link covers: seals of one export do not fit another. */
export function sealName(exported: string, name: string): string {
  return `${exported} ${name}`;
}

/** Prefix of the key under which a block's own metadata is stored in the file's. */
export const BLOCK = "block.";

/** A line of the records: a file, followed by each of its chunks in order. */
export const FileLine = z.object({
  file: z.string(),
  record: z.object({
    path: z.string(),
    hash: z.string(),
    size_bytes: z.number(),
    modified_ms: z.number(),
    seen_ms: z.number(),
    reader: z.int().optional(),
    problems: z.array(z.object({ path: z.string(), line: z.number().optional(), pages: z.array(z.int()).optional(), reason: z.string() })),
  }),
  chunks: z.int(),
});
const value = z.union([z.string(), z.number(), z.boolean()]);
export const ChunkLine = z.object({
  title: z.string(),
  text: z.string(),
  tokens: z.array(z.int()),
  block: z.string(),
  page: z.int().optional(),
  fields: z.record(z.string(), z.union([value, z.array(value)])).optional(),
});

/** A model's adapters, as written in the file. */
export const Adapters = z.array(z.object({ name: z.string(), id: z.string() }));

/** The file's metadata, besides that of blocks. */
export const FileMetadata = z.object({
  format: z.string(),
  /** `Model.id`, and its name for display. */
  model: z.string(),
  model_name: z.string(),
  /** The low-rank adapters that it was loaded with, `Adapters` in JSON; absent if there were none. */
  adapters: z.string().optional(),
  precision: z.enum(PRECISIONS),
  /** How blocks were encoded; `exact` if absent. */
  encoding: z.enum(ENCODINGS).default(DEFAULT_ENCODING),
  /** The key of a block without tokens: a hash of everything else that a block depends on. */
  blocks_of: z.string(),
  embedder: z.string(),
  /** The best linking found by an audit; absent if there was none. */
  link: z.string().optional(),
  /** The same in all files of one export. */
  export: z.string(),
  /** "1" of "3". */
  part: z.string(),
  parts: z.string(),
});
export type FileMetadata = z.infer<typeof FileMetadata>;

/** Path of part `part` (from 1) of `parts`, named as Hugging Face names the files of one model. */
export function partPath(path: string, part: number, parts: number): string {
  if (parts === 1) return path;
  const number = (value: number) => String(value).padStart(5, "0");
  return `${path.replace(/\.safetensors$/, "")}-${number(part)}-of-${number(parts)}.safetensors`;
}

/** All parts of an export, from the path of any part or the path that was exported to. */
export function allParts(path: string, parts: number): string[] {
  const whole = path.replace(/-\d{5}-of-\d{5}\.safetensors$/, ".safetensors");
  return Array.from({ length: parts }, (_, index) => partPath(whole, index + 1, parts));
}
