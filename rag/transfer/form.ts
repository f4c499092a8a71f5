import { z } from "zod";

import { PRECISIONS } from "../../engine/index.js";

/** Version of what an exported corpus is made of; docs/store-format.md describes it. */
export const FORMAT = "kvsplice-corpus-1";

/** Tensors beside the blocks': float32 `[chunks, dimensions]`, and JSON, one object a line. */
export const VECTORS = "corpus.vectors";
export const RECORDS = "corpus.records";

/** Seals of blocks, vectors and records stand under this and their name. */
export const SEAL = "seal.";

/** What the seal of vectors or records is under: those of one export fit no other. */
export function sealName(exported: string, name: string): string {
  return `${exported} ${name}`;
}

/** A block's own metadata stands in the file's under this and its key. */
export const BLOCK = "block.";

/** What a line of the records holds: a file, then each of its chunks in order. */
export const FileLine = z.object({
  file: z.string(),
  record: z.object({
    path: z.string(),
    hash: z.string(),
    size_bytes: z.number(),
    modified_ms: z.number(),
    seen_ms: z.number(),
    problems: z.array(z.object({ path: z.string(), line: z.number().optional(), pages: z.array(z.int()).optional(), reason: z.string() })),
  }),
  chunks: z.int(),
});
export const ChunkLine = z.object({ title: z.string(), text: z.string(), tokens: z.array(z.int()), block: z.string(), page: z.int().optional() });

/** The file's metadata, beside those of blocks. */
export const FileMetadata = z.object({
  format: z.string(),
  /** `Model.id`, and its name for people. */
  model: z.string(),
  model_name: z.string(),
  precision: z.enum(PRECISIONS),
  /** The key of a block without tokens: a hash of all else that a block depends on. */
  blocks_of: z.string(),
  embedder: z.string(),
  /** The same in all files of one export. */
  export: z.string(),
  /** "1" of "3". */
  part: z.string(),
  parts: z.string(),
});
export type FileMetadata = z.infer<typeof FileMetadata>;

/** Where part `part` (from 1) of `parts` is, as Hugging Face names the files of one model. */
export function partPath(path: string, part: number, parts: number): string {
  if (parts === 1) return path;
  const number = (value: number) => String(value).padStart(5, "0");
  return `${path.replace(/\.safetensors$/, "")}-${number(part)}-of-${number(parts)}.safetensors`;
}

/** All parts of an export, from the path of any or the one that was given to it. */
export function allParts(path: string, parts: number): string[] {
  const whole = path.replace(/-\d{5}-of-\d{5}\.safetensors$/, ".safetensors");
  return Array.from({ length: parts }, (_, index) => partPath(whole, index + 1, parts));
}
