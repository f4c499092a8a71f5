import { KvspliceError } from "../../../plan/index.js";
import type { ModelFile, ModelMetadata } from "../files/model-file.js";
import type { ModelSpec } from "../spec.js";
import { llama } from "./llama.js";
import { qwen2 } from "./qwen2.js";
import { SpecReader } from "./reader.js";

/** Families by their name in a GGUF's `general.architecture`. */
const FAMILIES: ReadonlyMap<string, (file: SpecReader) => ModelSpec> = new Map(Object.entries({ llama, qwen2 }));

/** `contextLength`: positions that the model is to be used with; as many as it was trained on when left out. */
export type SpecOptions = { readonly contextLength?: number };

/**
 * What a model's file says that is to be computed.
 * @throws KvspliceError `bad_model` for another architecture, for metadata or tensors that are missing, and for any that
 *   are there and would not be computed with
 */
export function readSpec(file: ModelFile, { contextLength }: SpecOptions = {}): ModelSpec {
  const reader = new SpecReader(file, contextLength);
  const family = FAMILIES.get(reader.architecture);
  if (!family) {
    throw new KvspliceError("bad_model", `Architecture "${reader.architecture}" is not supported; use a model of one of ${[...FAMILIES.keys()].join(", ")}.`);
  }
  const spec = family(reader);
  reader.mustHaveReadAll();
  return spec;
}

/** Positions that the model was trained on. @throws KvspliceError `bad_model` where the file does not say */
export function readContextLength(metadata: ModelMetadata): number {
  const value = metadata[`${String(metadata["general.architecture"])}.context_length`];
  const length = typeof value === "bigint" ? Number(value) : value;
  if (typeof length !== "number") throw new KvspliceError("bad_model", "The model file does not say its context length. Convert the model to GGUF again.");
  return length;
}
