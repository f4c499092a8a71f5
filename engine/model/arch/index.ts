import { KvspliceError } from "../../../plan/index.js";
import type { ModelFile, ModelMetadata } from "../files/model-file.js";
import type { ModelSpec } from "../spec.js";
import { gemma, gemma2, gemma3 } from "./gemma.js";
import { gptOss } from "./gpt-oss.js";
import { granite } from "./granite.js";
import { llama } from "./llama.js";
import { mistral3 } from "./mistral3.js";
import { olmo2 } from "./olmo2.js";
import { phi3 } from "./phi3.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";
import { SpecReader } from "./reader.js";
import { reasonToRefuse } from "./refused.js";
import { smollm3 } from "./smollm3.js";

/** Families by their name in a GGUF's `general.architecture`. */
const FAMILIES: ReadonlyMap<string, (file: SpecReader) => ModelSpec> = new Map(
  Object.entries({
    llama,
    qwen2,
    qwen3,
    qwen3moe: qwen3,
    mistral3,
    gemma,
    gemma2,
    gemma3,
    phi3,
    smollm3,
    granite,
    olmo2,
    "gpt-oss": gptOss,
  }),
);

/** The supported architectures. */
export const ARCHITECTURES: readonly string[] = [...FAMILIES.keys()];

/** `contextLength`: positions that the model is to be used with; as many as it was trained on if omitted. */
export type SpecOptions = { readonly contextLength?: number | undefined };

/**
 * What a model computes according to its file.
 * @throws KvspliceError `bad_model` for an unsupported architecture, for missing metadata or tensors, and for any that are
 *   present but would not be used
 */
export function readSpec(file: ModelFile, { contextLength }: SpecOptions = {}): ModelSpec {
  const reader = new SpecReader(file, contextLength);
  const family = FAMILIES.get(reader.architecture);
  if (!family) {
    const reason = reasonToRefuse(reader.architecture) ?? "is not supported";
    throw new KvspliceError(
      "bad_model",
      `Architecture "${reader.architecture}" ${reason}. Use a model of one of ${ARCHITECTURES.join(", ")}.`,
    );
  }
  const trained = readContextLength(file.metadata);
  if (contextLength !== undefined && contextLength > trained) {
    throw new KvspliceError(
      "bad_argument",
      `${file.path} was trained on ${trained} positions, fewer than the ${contextLength} requested. Request fewer.`,
    );
  }
  const spec = family(reader);
  reader.mustHaveReadAll();
  return { ...spec, variant: [file.variant, spec.variant].filter(Boolean).join(" ") };
}

/** Positions that the model was trained on. @throws KvspliceError `bad_model` if the file does not give the number */
export function readContextLength(metadata: ModelMetadata): number {
  const value = metadata[`${String(metadata["general.architecture"])}.context_length`];
  const length = typeof value === "bigint" ? Number(value) : value;
  if (typeof length !== "number")
    throw new KvspliceError("bad_model", "The model file does not give its context length. Convert the model to GGUF again.");
  return length;
}
