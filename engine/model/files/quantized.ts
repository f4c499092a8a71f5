import { dequantize, encodingOf } from "../tensors/index.js";
import { QUANTIZED_GROUP, quantize } from "../tensors/quantize.js";
import type { ModelFile, RawTensor, TensorInfo } from "./model-file.js";

/** How float matrices are kept: quantised when they are read, or as they are. */
export type Quantization = "q4" | "q8" | "none";

/** All of them. Each is the default for some kind of file: see `LoadOptions.quantize`. */
export const QUANTIZATIONS: readonly Quantization[] = ["q4", "q8", "none"];

/** Tensors that q4 keeps in 8 bits: each is a tenth of a model, and losses in it affect every token. */
const KEPT_IN_8_BITS = new Set(["token_embd.weight", "output.weight"]);

/** The experts' router is small, and llama.cpp does not quantise it either; nor experts' biases, one row each. */
const KEPT = /\.ffn_gate_inp\.weight$|\.bias$/;

/** Values quantised at a time. */
const CHUNK_VALUES = 1 << 20;

/**
 * A model whose float matrices are quantised when they are read: to Q8_0, or with `q4` to Q4_0 except for the embedding and
 * the head. Norms and biases stay floats, and so do experts' routers and matrices whose row length is not a multiple of 32;
 * what is already quantised stays as it is.
 */
export function quantized(file: ModelFile, quantization: Quantization): ModelFile {
  const variant = `${file.variant} ${quantization}`.trim();
  if (quantization === "none") return { ...file, variant };
  const typeOf = (info: TensorInfo) => quantizedType(info, quantization);
  return {
    ...file,
    variant,
    info(name) {
      const info = file.info(name);
      return { ...info, type: typeOf(info) ?? info.type };
    },
    tensor(name) {
      const info = file.info(name);
      const type = typeOf(info);
      return type ? quantizedRows(file, name, type, 0, rowsOf(info.shape), info.shape) : file.tensor(name);
    },
    rows(name, from, count) {
      const info = file.info(name);
      const type = typeOf(info);
      return type ? quantizedRows(file, name, type, from, count, [count, info.shape.at(-1)!]) : file.rows(name, from, count);
    },
  };
}

type QuantizedType = Parameters<typeof quantize>[1];

function quantizedType(info: TensorInfo, quantization: "q4" | "q8"): QuantizedType | undefined {
  const { name, shape } = info;
  if (shape.length < 2 || encodingOf(info).kind !== "float" || shape.at(-1)! % QUANTIZED_GROUP !== 0 || KEPT.test(name)) return undefined;
  return quantization === "q8" || KEPT_IN_8_BITS.has(name) ? "Q8_0" : "Q4_0";
}

/** Quantised on access: a graph writer names all tensors, and packs them one by one. */
function quantizedRows(
  file: ModelFile,
  name: string,
  type: QuantizedType,
  from: number,
  count: number,
  shape: readonly number[],
): RawTensor {
  return {
    name,
    type,
    shape,
    get bytes() {
      const step = Math.max(1, Math.floor(CHUNK_VALUES / shape.at(-1)!));
      const parts: Uint8Array[] = [];
      for (let at = 0; at < count; at += step)
        parts.push(quantize(dequantize(file.rows(name, from + at, Math.min(step, count - at))), type));
      return parts.length === 1 ? parts[0]! : new Uint8Array(Buffer.concat(parts));
    },
  };
}

/** The number of rows, over all experts if there are any. */
function rowsOf(shape: readonly number[]): number {
  return shape.slice(0, -1).reduce((a, b) => a * b, 1);
}
