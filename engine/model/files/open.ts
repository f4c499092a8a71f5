import { type Quantization, isFolder, openFolder } from "./huggingface/folder.js";
import { openGguf } from "./gguf.js";
import { mustGenerate } from "./kind.js";
import type { ModelFile, ModelMetadata } from "./model-file.js";

export { DEFAULT_QUANTIZATION, type Quantization, QUANTIZATIONS } from "./huggingface/folder.js";

/** `quantize`: how the matrices of a Hugging Face folder are kept, 8 bits when left out; a GGUF file stays as it is. */
export type OpenOptions = { readonly quantize?: Quantization | undefined };

/**
 * Opens a model's files: a GGUF file, any part of a split one, or a Hugging Face folder.
 *
 * @throws KvspliceError `bad_model` if there is none at the path, it is not whole, or it does not write text
 */
export function openModelFile(path: string, { quantize }: OpenOptions = {}): ModelFile {
  if (isFolder(path)) return openFolder(path, quantize);
  const file = openGguf(path);
  try {
    mustGenerate(file);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** What a model's files say of it, without its tensors; also where they have none. @throws KvspliceError `bad_model` */
export function readMetadata(path: string): ModelMetadata {
  const file = isFolder(path) ? openFolder(path) : openGguf(path);
  file.close();
  return file.metadata;
}
