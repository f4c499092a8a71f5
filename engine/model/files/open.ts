import type { ModelFile, ModelMetadata } from "./model-file.js";
import { openGguf } from "./gguf.js";
import { mustGenerate } from "./kind.js";

/**
 * Opens a model's files: a GGUF file, or any part of a split one.
 *
 * @throws KvspliceError `bad_model` if there is none at the path, it is not whole, or it does not write text
 */
export function openModelFile(path: string): ModelFile {
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
  const file = openGguf(path);
  file.close();
  return file.metadata;
}
