import onnxProto from "onnx-proto";
import type { onnx as Onnx } from "onnx-proto";

const { onnx } = onnxProto as unknown as { onnx: typeof Onnx };
const { FLOAT, UINT8, INT64 } = onnx.TensorProto.DataType;
const OPSET = 20;
const CONTRIB_OPSET = 1;
/** ONNX Runtime maps external data from the file where its offset is a multiple of this. */
const ALIGNMENT = 4096;

/** The first place from `offset` on where a weight may begin in a weights file. */
export function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}

export type Dimension = number | string;
export type Attributes = Readonly<Record<string, number | readonly number[]>>;

const ELEMENT_TYPES = { float32: FLOAT, uint8: UINT8, int64: INT64 };

/** Writes an ONNX graph node by node; its weights go to a file beside it, so that models of any size fit. */
export class GraphWriter {
  private readonly nodes: Onnx.INodeProto[] = [];
  private readonly initializers: Onnx.ITensorProto[] = [];
  private readonly inputs: Onnx.IValueInfoProto[] = [];
  private readonly outputs: Onnx.IValueInfoProto[] = [];
  /** Small constants by their content. */
  private readonly constants = new Map<string, string>();
  private offset = 0;
  private names = 0;

  constructor(
    private readonly weightsFile: string,
    private readonly writeWeights: (bytes: Uint8Array, offset: number) => void,
  ) {}

  input(name: string, type: keyof typeof ELEMENT_TYPES, shape: readonly Dimension[]): string {
    this.inputs.push(valueInfo(name, ELEMENT_TYPES[type], shape));
    return name;
  }

  output(name: string, shape: readonly Dimension[]): void {
    this.outputs.push(valueInfo(name, FLOAT, shape));
  }

  /** A weight; its bytes go to the weights file. */
  weight(values: Float32Array | Uint8Array, dims: readonly number[]): string {
    const name = `w${this.names++}`;
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.writeWeights(bytes, this.offset);
    this.initializers.push({
      name,
      dims: [...dims],
      dataType: values instanceof Float32Array ? FLOAT : UINT8,
      dataLocation: onnx.TensorProto.DataLocation.EXTERNAL,
      externalData: [
        { key: "location", value: this.weightsFile },
        { key: "offset", value: String(this.offset) },
        { key: "length", value: String(bytes.length) },
      ],
    });
    this.offset = aligned(this.offset + bytes.length);
    return name;
  }

  /** A short list of integers, as Reshape and Split take it. */
  integers(values: readonly number[]): string {
    const key = values.join();
    let name = this.constants.get(key);
    if (!name) {
      name = `i${this.names++}`;
      this.initializers.push({ name, dims: [values.length], dataType: INT64, rawData: new Uint8Array(BigInt64Array.from(values, BigInt).buffer) });
      this.constants.set(key, name);
    }
    return name;
  }

  /** One real number. */
  real(value: number): string {
    const key = `real ${value}`;
    let name = this.constants.get(key);
    if (!name) {
      name = `r${this.names++}`;
      this.initializers.push({ name, dims: [], dataType: FLOAT, rawData: new Uint8Array(Float32Array.of(value).buffer) });
      this.constants.set(key, name);
    }
    return name;
  }

  /** Fresh names for a node's outputs. */
  fresh(count: number): string[] {
    return Array.from({ length: count }, () => `t${this.names++}`);
  }

  /** An operator of the ONNX standard; returns its outputs' names, given ones or fresh ones. */
  node(opType: string, input: readonly string[], attributes: Attributes = {}, output?: readonly string[]): string {
    return this.operator("", opType, input, attributes, output);
  }

  /** Parts of the given sizes along an axis, by their names; fresh ones for empty names. */
  split(input: string, sizes: readonly number[], axis: number, names: readonly string[] = sizes.map(() => "")): string[] {
    const parts = names.map((name) => name || `t${this.names++}`);
    this.node("Split", [input, this.integers(sizes)], { axis }, parts);
    return parts;
  }

  /** An operator of ONNX Runtime's own (`com.microsoft`). */
  contrib(opType: string, input: readonly string[], attributes: Attributes = {}, output?: readonly string[]): string {
    return this.operator("com.microsoft", opType, input, attributes, output);
  }

  /** The model, encoded. */
  encode(): Uint8Array {
    return onnx.ModelProto.encode({
      irVersion: 8,
      producerName: "kvsplice",
      opsetImport: [
        { domain: "", version: OPSET },
        { domain: "com.microsoft", version: CONTRIB_OPSET },
      ],
      graph: { name: "decoder", node: this.nodes, initializer: this.initializers, input: this.inputs, output: this.outputs },
    }).finish();
  }

  private operator(domain: string, opType: string, input: readonly string[], attributes: Attributes, output?: readonly string[]): string {
    const outputs = output ?? [`t${this.names++}`];
    this.nodes.push({ domain, opType, input: [...input], output: [...outputs], attribute: Object.entries(attributes).map(attribute) });
    return outputs[0]!;
  }
}

/**
 * The model with its weights at other places of the weights file, their prepacked forms too, which ONNX Runtime notes
 * beside them as `key|offset;length;checksum` for each buffer.
 * @param place tells where the bytes at an offset are now
 */
export function moveWeights(model: Uint8Array, place: (offset: number, length: number) => number): Uint8Array {
  const decoded = onnx.ModelProto.decode(model);
  for (const { externalData } of decoded.graph?.initializer ?? []) {
    const entries = new Map(externalData?.map((entry) => [entry.key, entry]));
    const [offset, length] = [entries.get("offset"), entries.get("length")];
    if (!offset || !length) continue;
    offset.value = String(place(Number(offset.value), Number(length.value)));
    for (const [key, entry] of entries) {
      if (!key?.startsWith("prepacked")) continue;
      entry.value = entry.value!.replaceAll(/\|(\d+);(\d+);/g, (_, at: string, size: string) => `|${place(Number(at), Number(size))};${size};`);
    }
  }
  return onnx.ModelProto.encode(decoded).finish();
}

function attribute([name, value]: [string, number | readonly number[]]): Onnx.IAttributeProto {
  const { INT, INTS, FLOAT: REAL } = onnx.AttributeProto.AttributeType;
  if (typeof value !== "number") return { name, type: INTS, ints: [...value] };
  return Number.isInteger(value) && !REAL_ATTRIBUTES.has(name) ? { name, type: INT, i: value } : { name, type: REAL, f: value };
}

/** Attributes that are real numbers even where the value happens to be whole. */
const REAL_ATTRIBUTES = new Set(["alpha", "epsilon"]);

function valueInfo(name: string, elemType: number, shape: readonly Dimension[]): Onnx.IValueInfoProto {
  const dim = shape.map((size) => (typeof size === "number" ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}
