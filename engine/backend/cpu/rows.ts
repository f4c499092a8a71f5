import { KvspliceError } from "../../../plan/index.js";
import type { ModelFile, RawTensor } from "../../model/files/model-file.js";
import type { AttentionSpec, LinearSpec } from "../../model/spec.js";
import { dequantize } from "../../model/tensors/index.js";

/** Reads a model's tensors as a specification names them, and checks that they have the shapes that follow from it. */
export class TensorReader {
  constructor(private readonly file: ModelFile) {}

  /** A linear layer's weight `[rows, columns]`, and its bias. */
  weight({ tensor, rows: part, bias }: LinearSpec, rows: number, columns: number): { tensor: RawTensor; bias: RawTensor | undefined } {
    const whole = this.file.tensor(tensor);
    const wholeBias = bias === undefined ? undefined : this.file.tensor(bias);
    const own = part ? slice(whole, part) : whole;
    const ownBias = part && wholeBias ? slice(wholeBias, part) : wholeBias;
    mustBe(own, [rows, columns]);
    if (ownBias) mustBe(ownBias, [rows]);
    return { tensor: own, bias: ownBias };
  }

  /** The weights of experts, `[rows, columns]` each, and their biases. */
  experts({ tensor, bias }: LinearSpec, experts: number, rows: number, columns: number): { tensor: RawTensor; bias: RawTensor | undefined }[] {
    const all = this.file.tensor(tensor);
    const biases = bias === undefined ? undefined : this.file.tensor(bias);
    mustBe(all, [experts, rows, columns]);
    if (biases) mustBe(biases, [experts, rows]);
    const one = (all: RawTensor, expert: number): RawTensor => {
      const { shape, ...rest } = slice(all, [expert, expert + 1]);
      return { ...rest, shape: shape.slice(1) };
    };
    return Array.from({ length: experts }, (_, expert) => ({ tensor: one(all, expert), bias: biases && one(biases, expert) }));
  }

  vector(name: string, length: number): Float32Array {
    const tensor = this.file.tensor(name);
    mustBe(tensor, [length]);
    return dequantize(tensor);
  }
}

function mustBe({ name, shape }: RawTensor, expected: readonly number[]): void {
  if (shape.length === expected.length && shape.every((size, i) => size === expected[i])) return;
  throw new KvspliceError("bad_model", `${name} of the model file is [${shape.join(", ")}], where its metadata makes it [${expected.join(", ")}]. Convert the model to GGUF again.`);
}

/** Rows `[from, to)` of a tensor, read when their bytes are looked at. */
function slice(tensor: RawTensor, [from, to]: readonly [number, number]): RawTensor {
  const { name, type, shape } = tensor;
  const [rows, ...rest] = shape as [number, ...number[]];
  return {
    name,
    type,
    shape: [Math.min(to, rows) - from, ...rest],
    get bytes() {
      const { bytes } = tensor;
      const rowBytes = bytes.length / rows;
      return bytes.subarray(from * rowBytes, to * rowBytes);
    },
  };
}

/**
 * The source row of each of Q's rows, ordered by the queries' place in their group first: queries that share a KV head
 * are rows of one matrix then, `[S * group, kv_heads, head_size]`, as the linear layer's result lies.
 */
export function queriesByGroup({ heads, kvHeads, headSize }: AttentionSpec): Int32Array {
  const group = heads / kvHeads;
  return Int32Array.from({ length: heads * headSize }, (_, i) => {
    const head = Math.floor(i / headSize);
    return ((head % kvHeads) * group + Math.floor(head / kvHeads)) * headSize + (i % headSize);
  });
}

/** The source row of each row once dimensions that turn together lie in halves, i beside i + half. */
export function rowsOf(pairs: LinearSpec["pairs"], rows: number, headSize: number, turned = 0): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => {
    const within = row % headSize;
    if (pairs !== "interleaved" || within >= turned) return row;
    const half = turned / 2;
    return row - within + (within % half) * 2 + Math.floor(within / half);
  });
}
