import { KvspliceError } from "../../../plan/index.js";
import type { ModelFile, RawTensor, TensorInfo } from "../../model/files/model-file.js";
import type { AttentionSpec, LinearSpec } from "../../model/spec.js";
import { dequantize } from "../../model/tensors/index.js";

/** The tensors of a linear layer, and which row of the tensor in the file the first one is. */
type LinearTensors = { readonly tensor: RawTensor; readonly bias: RawTensor | undefined; readonly from: number };

/** Reads the tensors that a specification names, and checks that they have the shapes that follow from it. */
export class TensorReader {
  constructor(private readonly file: ModelFile) {}

  /** A linear layer's weight `[rows, columns]`, and its bias. */
  weight({ tensor, rows: part, bias }: LinearSpec, rows: number, columns: number): LinearTensors {
    if (!part)
      return { tensor: this.whole(tensor, [rows, columns]), bias: bias === undefined ? undefined : this.whole(bias, [rows]), from: 0 };
    const [all, from] = [this.file.info(tensor).shape[0]!, part[0]];
    mustBe(this.file.info(tensor), [Math.max(all, part[1]), columns]);
    return {
      tensor: this.file.rows(tensor, from, rows),
      bias: bias === undefined ? undefined : within(this.whole(bias, [all]), from, rows),
      from,
    };
  }

  /** The weights of experts, `[rows, columns]` each, and their biases. */
  experts({ tensor, bias }: LinearSpec, experts: number, rows: number, columns: number): LinearTensors[] {
    mustBe(this.file.info(tensor), [experts, rows, columns]);
    const biases = bias === undefined ? undefined : this.whole(bias, [experts, rows]);
    return Array.from({ length: experts }, (_, expert) => ({
      tensor: this.file.rows(tensor, expert * rows, rows),
      bias: biases && within(biases, expert * rows, rows),
      from: expert * rows,
    }));
  }

  /** A tensor of this shape. */
  private whole(name: string, shape: readonly number[]): RawTensor {
    mustBe(this.file.info(name), shape);
    return this.file.tensor(name);
  }

  vector(name: string, length: number): Float32Array {
    return dequantize(this.whole(name, [length]));
  }
}

function mustBe({ name, shape }: TensorInfo, expected: readonly number[]): void {
  if (shape.length === expected.length && shape.every((size, i) => size === expected[i])) return;
  throw new KvspliceError(
    "bad_model",
    `${name} in the model file has the shape [${shape.join(", ")}], but its metadata requires [${expected.join(", ")}]. Convert the model to GGUF again.`,
  );
}

/** `length` values of a bias, starting at `from`. */
function within(bias: RawTensor, from: number, length: number): RawTensor {
  const { name, type, shape, bytes } = bias;
  const size = bytes.length / shape.reduce((a, b) => a * b, 1);
  return { name, type, shape: [length], bytes: bytes.subarray(from * size, (from + length) * size) };
}

/**
 * The source row of each of Q's rows, ordered first by the queries' place in their group: queries that share a KV head
 * are then rows of one matrix, `[S * group, kv_heads, head_size]`, in the layout of the linear layer's result.
 */
export function queriesByGroup({ heads, kvHeads, headSize }: AttentionSpec): Int32Array {
  const group = heads / kvHeads;
  return Int32Array.from({ length: heads * headSize }, (_, i) => {
    const head = Math.floor(i / headSize);
    return ((head % kvHeads) * group + Math.floor(head / kvHeads)) * headSize + (i % headSize);
  });
}

/** The source row of each row when dimensions that rotate together are in halves, i with i + half. */
export function rowsOf(pairs: LinearSpec["pairs"], rows: number, headSize: number, turned = 0): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => {
    const within = row % headSize;
    if (pairs !== "interleaved" || within >= turned) return row;
    const half = turned / 2;
    return row - within + (within % half) * 2 + Math.floor(within / half);
  });
}
