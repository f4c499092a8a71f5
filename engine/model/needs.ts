import { widthOf } from "../kv/form.js";
import { readSpec } from "./arch/index.js";
import type { ModelFile } from "./files/model-file.js";
import { modelName } from "./files/name.js";
import { openModelFile, type Quantization } from "./files/open.js";
import { kvFormOf } from "./spec.js";
import { encodingOf } from "./tensors/index.js";

/** What a model needs, read only from its header. */
export type ModelNeeds = {
  readonly name: string;
  /** Size of its files, as they are or after quantisation. */
  readonly file_bytes: number;
  /** Memory of a process that has loaded it: its weights in the layout used for multiplication, and what any process takes. */
  readonly memory_bytes: number;
  /** Size of one token's keys and values in a prompt. */
  readonly token_bytes: number;
};

const EMBEDDING = "token_embd.weight";

/** What a process takes besides: Node, ONNX Runtime, the embedder, vocabularies. 410 to 550 MB were measured. */
const PROCESS_BYTES = 480 * 2 ** 20;

/** @throws KvspliceError `bad_model` as `loadModel` does */
export function modelNeeds(
  path: string,
  options: { readonly quantize?: Quantization | undefined; readonly contextLength?: number | undefined } = {},
): ModelNeeds {
  const file = openModelFile(path, options);
  try {
    const spec = readSpec(file, options);
    const names = [...file.names()];
    // The embedding's rows are read from the file; a head that is the same tensor is kept like any other matrix.
    const held = spec.head.weight.tensor === EMBEDDING ? names : names.filter((name) => name !== EMBEDDING);
    const { layers } = kvFormOf(spec);
    return {
      name: modelName(path, file.metadata),
      file_bytes: sum(names, (name) => bytesInFile(file, name)),
      memory_bytes: PROCESS_BYTES + sum(held, (name) => bytesInMemory(file, name)),
      token_bytes: layers.reduce((bytes, layer) => bytes + 2 * widthOf(layer) * Float32Array.BYTES_PER_ELEMENT, 0),
    };
  } finally {
    file.close();
  }
}

function bytesInFile(file: ModelFile, name: string): number {
  const tensor = file.info(name);
  const { elements, bytes } = encodingOf(tensor);
  return (count(tensor) / elements) * bytes;
}

/** Codes as MatMulNBits has them, with one float32 scale per group; floats as float32. */
function bytesInMemory(file: ModelFile, name: string): number {
  const tensor = file.info(name);
  const encoding = encodingOf(tensor);
  if (encoding.kind === "float" || tensor.shape.length < 2) return count(tensor) * 4;
  const { bits, group, minima } = encoding;
  return count(tensor) * (bits / 8 + (minima ? 8 : 4) / group);
}

function count({ shape }: { readonly shape: readonly number[] }): number {
  return shape.reduce((a, b) => a * b, 1);
}

function sum(names: readonly string[], bytesOf: (name: string) => number): number {
  return names.reduce((bytes, name) => bytes + bytesOf(name), 0);
}
