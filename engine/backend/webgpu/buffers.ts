import { InferenceSession, Tensor } from "../../../runtime/index.js";
import { GraphWriter } from "../cpu/onnx.js";
import { ON_DEVICE } from "./session.js";

/** Values on the device, and the memory they are in. */
export type Upload = { readonly tensor: Tensor; free(): void };

/** Makes and reads buffers in the device's memory, each by a session of one node. */
export class Buffers {
  private constructor(private readonly sessions: Record<"zeros" | "extend" | "upload" | "read", InferenceSession>) {}

  /** @throws ONNX Runtime's error if there is no device */
  static async open(): Promise<Buffers> {
    const kept = { ...ON_DEVICE, preferredOutputLocation: "gpu-buffer" } as const;
    return new Buffers({
      zeros: await InferenceSession.create(zerosGraph(), kept),
      extend: await InferenceSession.create(extendGraph(), kept),
      upload: await InferenceSession.create(uploadGraph(), kept),
      read: await InferenceSession.create(readGraph(), ON_DEVICE),
    });
  }

  /** A buffer of zeros, `[1, heads, rows, head_size]`. */
  async zeros(dims: readonly number[]): Promise<Tensor> {
    return (await this.sessions.zeros.run({ shape: integers(dims) }))["buffer"]!;
  }

  /** A longer copy of a buffer; the given one is unchanged. */
  async extended(buffer: Tensor, rows: number): Promise<Tensor> {
    const [one, heads, present, headSize] = buffer.dims as [number, number, number, number];
    return (await this.sessions.extend.run({ buffer, shape: integers([one, heads, rows - present, headSize]) }))["longer"]!;
  }

  /** A copy of values on the device. */
  async upload(values: Float32Array | Int8Array, dims: readonly number[]): Promise<Upload> {
    // Any bits pass through as integers; for the device's operators they are what the view says.
    const words = new Int32Array(values.buffer, values.byteOffset, values.byteLength / Int32Array.BYTES_PER_ELEMENT);
    const { copy } = await this.sessions.upload.run({ values: new Tensor("int32", words, [words.length]) });
    return { tensor: viewOf(copy!, values instanceof Int8Array ? "int8" : "float32", dims), free: () => copy!.dispose() };
  }

  /** Rows `[from, to)` of a buffer, `[to - from, heads, head_size]`. */
  async read(buffer: Tensor, from: number, to: number): Promise<Float32Array> {
    return (await this.sessions.read.run({ buffer, from: integers([from]), to: integers([to]) }))["rows"]!.data as Float32Array;
  }

  async close(): Promise<void> {
    for (const session of Object.values(this.sessions)) await session.release();
  }
}

/** The binding takes a buffer with any type, but onnxruntime-common's constructor knows none for int8. */
function viewOf(buffer: Tensor, type: "float32" | "int8", dims: readonly number[]): Tensor {
  const tensor = Tensor.fromGpuBuffer(buffer.gpuBuffer, { dataType: type === "int8" ? "uint8" : type, dims });
  return Object.assign(tensor, { type });
}

const ANY = ["A", "B", "C", "D"];

function zerosGraph(): Uint8Array {
  const graph = new GraphWriter();
  graph.node("Expand", [graph.real(0), graph.input("shape", "int64", [4])], {}, ["buffer"]);
  graph.output("buffer", ANY);
  return graph.encodeWhole();
}

function extendGraph(): Uint8Array {
  const graph = new GraphWriter();
  const more = graph.node("Expand", [graph.real(0), graph.input("shape", "int64", [4])]);
  graph.node("Concat", [graph.input("buffer", "float32", ANY), more], { axis: 2 }, ["longer"]);
  graph.output("longer", ["A", "B", "E", "D"]);
  return graph.encodeWhole();
}

function uploadGraph(): Uint8Array {
  const graph = new GraphWriter();
  graph.node("Identity", [graph.input("values", "int32", ["N"])], {}, ["copy"]);
  graph.output("copy", ["N"], "int32");
  return graph.encodeWhole();
}

function readGraph(): Uint8Array {
  const graph = new GraphWriter();
  const [from, to] = [graph.input("from", "int64", [1]), graph.input("to", "int64", [1])];
  const rows = graph.node("Slice", [graph.input("buffer", "float32", ANY), from, to, graph.integers([2])]);
  graph.node("Transpose", [rows], { perm: [0, 2, 1, 3] }, ["rows"]);
  graph.output("rows", ["A", "R", "B", "D"]);
  return graph.encodeWhole();
}

export function integers(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}
