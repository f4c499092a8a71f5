import { openGguf } from "./gguf.js";
import { isFolder, openFolder } from "./huggingface/folder.js";
import { mustGenerate } from "./kind.js";
import type { ModelFile, ModelMetadata } from "./model-file.js";
import { type Quantization, quantized } from "./quantized.js";

export { QUANTIZATIONS, type Quantization } from "./quantized.js";

/** For a Hugging Face folder's matrices; a GGUF file's stay as they are by default. */
export const DEFAULT_QUANTIZATION: Quantization = "q8";

/** `quantize`: how float matrices are kept; if omitted, a folder's in 8 bits and a GGUF file's as they are. */
export type OpenOptions = { readonly quantize?: Quantization | undefined };

/**
 * Opens a model's files: a GGUF file, any part of a split one, or a Hugging Face folder.
 *
 * @throws KvspliceError `bad_model` if there is none at the path, it is incomplete, or it does not generate text
 */
export function openModelFile(path: string, { quantize }: OpenOptions = {}): ModelFile {
  if (isFolder(path)) return quantized(openFolder(path), quantize ?? DEFAULT_QUANTIZATION);
  const file = openGguf(path);
  try {
    mustGenerate(file);
    return quantize === undefined ? file : quantized(file, quantize);
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The metadata in a model's files, even if they have no tensors. @throws KvspliceError `bad_model` */
export function readMetadata(path: string): ModelMetadata {
  const file = isFolder(path) ? openFolder(path) : openGguf(path);
  file.close();
  return file.metadata;
}
