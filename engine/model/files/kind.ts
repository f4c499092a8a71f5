import { KvspliceError } from "../../../plan/index.js";
import type { ModelFile } from "./model-file.js";

/** Architectures that turn text into vectors, by llama.cpp's names. */
const EMBEDDING_ARCHITECTURES = new Set([
  "bert",
  "modern-bert",
  "nomic-bert",
  "nomic-bert-moe",
  "neo-bert",
  "jina-bert-v2",
  "jina-bert-v3",
  "eurobert",
  "gemma-embedding",
  "llama-embed",
]);

/** `general.type` of files that belong to a model but are not one (gguf-py's `GGUFType`). */
const OTHER_TYPES: Record<string, string> = {
  adapter: "a LoRA adapter, which changes a model but is not one. Merge it into its model",
  imatrix: "an importance matrix, which is used to quantise a model. Give the model itself",
  mmproj: "a projector (mmproj), which turns pictures or sound into input for a model. Give the model's own file instead",
};

/**
 * Checks that a file is a model that generates text.
 * @throws KvspliceError `bad_model` saying what it is instead
 */
export function mustGenerate(file: ModelFile): void {
  const what = otherThanGenerator(file);
  if (what) throw new KvspliceError("bad_model", `${file.path} is ${what}.`);
}

function otherThanGenerator(file: ModelFile): string | undefined {
  const { metadata } = file;
  const architecture = metadata["general.architecture"];
  const type = metadata["general.type"];
  if (typeof type === "string" && Object.hasOwn(OTHER_TYPES, type)) return OTHER_TYPES[type];
  if (typeof architecture !== "string")
    return "a GGUF file without general.architecture, so what it computes is unknown. Use a model that was converted for llama.cpp";
  if (architecture === "clip") return OTHER_TYPES["mmproj"];
  const of = (key: string) => metadata[`${architecture}.${key}`];
  if (EMBEDDING_ARCHITECTURES.has(architecture)) return embedding(`architecture ${architecture}`);
  // 0 means that nothing is pooled, and some generating models have been converted with it.
  if (Number(of("pooling_type") ?? 0) > 0) return embedding(`${architecture}.pooling_type is ${String(of("pooling_type"))}`);
  if (of("attention.causal") === false) return embedding(`${architecture}.attention.causal is false`);
  if (file.names()[Symbol.iterator]().next().done) return "a vocabulary without a model: it has no tensors. Give the model's own file";
  return undefined;
}

function embedding(why: string): string {
  return `an embedding or ranking model (${why}), which does not generate text. Give a model that does`;
}
