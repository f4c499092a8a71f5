import type { onnx as Onnx } from "onnx-proto";
import onnxProto from "onnx-proto";

const { onnx } = onnxProto as unknown as { onnx: typeof Onnx };
const { FLOAT, FLOAT16, UINT8, INT8, INT32, INT64 } = onnx.TensorProto.DataType;
const OPSET = 20;
const CONTRIB_OPSET = 1;

/** Weights up to this many bytes are stored in the graph itself. */
const INLINE_BYTES = 1 << 16;

export type Dimension = number | string;
export type Attributes = Readonly<Record<string, number | readonly number[]>>;

const ELEMENT_TYPES = { float32: FLOAT, float16: FLOAT16, uint8: UINT8, int8: INT8, int32: INT32, int64: INT64 };
const BYTES = { float32: 4, float16: 2, uint8: 1, int8: 1 };

export type WeightType = "float32" | "float16" | "uint8" | "int8";

/** `float16` as its bits. */
export type WeightValues = Float32Array | Uint16Array | Uint8Array | Int8Array;

export type WeightInfo = { readonly name: string; readonly type: WeightType; readonly dims: readonly number[] };

/** Weights that are made together, on request: those of a whole model are never in memory at once. */
export type WeightGroup = { readonly weights: readonly WeightInfo[]; readonly make: () => readonly WeightValues[] };

export function bytesOfWeight({ type, dims }: Omit<WeightInfo, "name">): number {
  return dims.reduce((a, b) => a * b, BYTES[type]);
}

/** Writes an ONNX graph node by node. Its larger weights are in a separate file, so models of any size are possible. */
export class GraphWriter {
  private readonly nodes: Onnx.INodeProto[] = [];
  private readonly initializers: Onnx.ITensorProto[] = [];
  private readonly inputs: Onnx.IValueInfoProto[] = [];
  private readonly outputs: Onnx.IValueInfoProto[] = [];
  /** Small constants by their content. */
  private readonly constants = new Map<string, string>();
  private readonly made: WeightGroup[] = [];
  private names = 0;

  /** The larger weights, in the order in which they were named. */
  get groups(): readonly WeightGroup[] {
    return this.made;
  }

  input(name: string, type: keyof typeof ELEMENT_TYPES, shape: readonly Dimension[]): string {
    this.inputs.push(valueInfo(name, ELEMENT_TYPES[type], shape));
    return name;
  }

  output(name: string, shape: readonly Dimension[], type: keyof typeof ELEMENT_TYPES = "float32"): void {
    this.outputs.push(valueInfo(name, ELEMENT_TYPES[type], shape));
  }

  /** A weight with the given values. */
  weight(values: WeightValues, dims: readonly number[]): string {
    const info = { type: weightType(values), dims };
    if (values.byteLength > INLINE_BYTES) return this.weights([info], () => [values])[0]!;
    const name = `w${this.names++}`;
    this.initializers.push({ name, dims: [...dims], dataType: ELEMENT_TYPES[info.type], rawData: bytesOf(values) });
    return name;
  }

  /** Weights whose values are made when they are written. */
  weights(infos: readonly Omit<WeightInfo, "name">[], make: WeightGroup["make"]): string[] {
    const weights = infos.map((info) => ({ ...info, name: `w${this.names++}` }));
    this.made.push({ weights, make });
    return weights.map(({ name }) => name);
  }

  /** A short list of integers, for Reshape, Split and the like. */
  integers(values: readonly number[]): string {
    return this.constant("i", values.join(), {
      dims: [values.length],
      dataType: INT64,
      rawData: bytesOf(BigInt64Array.from(values, BigInt)),
    });
  }

  /** One real number. */
  real(value: number): string {
    return this.constant("r", String(value), { dims: [], dataType: FLOAT, rawData: bytesOf(Float32Array.of(value)) });
  }

  /** One unsigned byte. */
  byte(value: number): string {
    return this.constant("b", String(value), { dims: [], dataType: UINT8, rawData: Uint8Array.of(value) });
  }

  /** Fresh names for a node's outputs. */
  fresh(count: number): string[] {
    return Array.from({ length: count }, () => `t${this.names++}`);
  }

  /** An operator of the ONNX standard; returns its outputs' names, given ones or fresh ones. */
  node(opType: string, input: readonly string[], attributes: Attributes = {}, output?: readonly string[]): string {
    return this.operator("", opType, input, attributes, output);
  }

  /** The same numbers in another type, rounded; its name is given or fresh. */
  cast(values: string, type: "float32" | "float16", output?: string): string {
    return this.node("Cast", [values], { to: ELEMENT_TYPES[type] }, output === undefined ? undefined : [output]);
  }

  /** Parts of the given sizes along an axis, by their names; fresh ones for empty names. */
  split(input: string, sizes: readonly number[], axis: number, names: readonly string[] = sizes.map(() => "")): string[] {
    const parts = names.map((name) => name || `t${this.names++}`);
    this.node("Split", [input, this.integers(sizes)], { axis }, parts);
    return parts;
  }

  /** One of ONNX Runtime's own operators (`com.microsoft`). */
  contrib(opType: string, input: readonly string[], attributes: Attributes = {}, output?: readonly string[]): string {
    return this.operator("com.microsoft", opType, input, attributes, output);
  }

  /** The encoded model; its larger weights refer to these places in a file of this name. */
  encode(weightsFile: string, places: (info: WeightInfo) => WeightPlace): Uint8Array {
    return this.encodeWith(
      this.made.flatMap(({ weights }) => weights.map((info) => ({ ...placedAt(weightsFile, places(info)), ...protoOf(info) }))),
    );
  }

  /** The encoded model including all of its weights, for graphs with few of them. */
  encodeWhole(): Uint8Array {
    return this.encodeWith(
      this.made.flatMap(({ weights, make }) => {
        const values = make();
        return weights.map((info, i) => ({ ...protoOf(info), rawData: bytesOf(values[i]!) }));
      }),
    );
  }

  /** A small constant, stored in the graph once: the letter of its kind, and its value as a key. */
  private constant(kind: string, value: string, tensor: Omit<Onnx.ITensorProto, "name">): string {
    const key = `${kind} ${value}`;
    const known = this.constants.get(key);
    if (known) return known;
    const name = `${kind}${this.names++}`;
    this.initializers.push({ name, ...tensor });
    this.constants.set(key, name);
    return name;
  }

  private encodeWith(weights: readonly Onnx.ITensorProto[]): Uint8Array {
    return encodeModel({ node: this.nodes, initializer: [...this.initializers, ...weights], input: this.inputs, output: this.outputs });
  }

  private operator(domain: string, opType: string, input: readonly string[], attributes: Attributes, output?: readonly string[]): string {
    const outputs = output ?? [`t${this.names++}`];
    this.nodes.push({ domain, opType, input: [...input], output: [...outputs], attribute: Object.entries(attributes).map(attribute) });
    return outputs[0]!;
  }
}

/** Where a weight is in the weights file, and its packed form for one operator, by ONNX Runtime's name for that. */
export type WeightPlace = { readonly offset: number; readonly length: number; readonly packed?: PackedPlace };

export type PackedPlace = { readonly key: string; readonly offset: number; readonly length: number };

/** An encoded model whose weights can be placed and whose nodes can be inspected. */
export class EncodedModel {
  private readonly model: Onnx.ModelProto;

  constructor(encoded: Uint8Array) {
    this.model = onnx.ModelProto.decode(encoded);
  }

  /** The nodes that read a weight or another value. */
  readersOf(name: string): OnnxNode[] {
    const { node, initializer } = this.model.graph!;
    const reading = node!.filter(({ input }) => input!.includes(name));
    return reading.map((each) => ({
      node: each,
      constants: initializer!.filter((weight) => !weight.externalData?.length && each.input!.includes(weight.name!)),
    }));
  }

  /** The weights in files, and what ONNX Runtime has recorded about their packed forms. */
  placed(): Map<string, WeightPlace> {
    const places = new Map<string, WeightPlace>();
    for (const { name, externalData } of this.model.graph?.initializer ?? []) {
      const entries = new Map(externalData?.map(({ key, value }) => [key, value]));
      const [offset, length] = [Number(entries.get("offset")), Number(entries.get("length"))];
      if (entries.size === 0) continue;
      const [, packed, ...others] = [...entries].filter(([key]) => key?.startsWith("prepacked")).flatMap(([, value]) => ["", value!]);
      const noted = packed && others.length === 0 ? PACKED.exec(packed)?.groups : undefined;
      places.set(name!, {
        offset,
        length,
        ...(noted && { packed: { key: noted["key"]!, offset: Number(noted["offset"]), length: Number(noted["length"]) } }),
      });
    }
    for (const { key, value } of this.model.metadataProps ?? []) {
      if (key!.startsWith(SAME_AS)) places.set(key!.slice(SAME_AS.length), places.get(value!)!);
    }
    return places;
  }

  /**
   * The model with its weights at these places in a file. Weights with the same place and shape become one, which a session maps
   * once; the model records the names of the others.
   */
  place(weightsFile: string, places: ReadonlyMap<string, WeightPlace>): Uint8Array {
    const graph = this.model.graph!;
    const byPlace = new Map<string, string>();
    const sameAs = new Map<string, string>();
    graph.initializer = graph.initializer!.filter((initializer) => {
      const { name, dims, dataType } = initializer;
      const place = places.get(name!);
      if (!place) return true;
      Object.assign(initializer, placedAt(weightsFile, place));
      const where = JSON.stringify([place, dims, dataType]);
      const known = byPlace.get(where);
      if (known === undefined) byPlace.set(where, name!);
      else sameAs.set(name!, known);
      return known === undefined;
    });
    for (const node of graph.node!) node.input = node.input!.map((name) => sameAs.get(name) ?? name);
    this.model.metadataProps = Array.from(sameAs, ([name, other]) => ({ key: SAME_AS + name, value: other }));
    return onnx.ModelProto.encode(this.model).finish();
  }
}

/** Prefix of the key that records that a weight is the same as another. */
const SAME_AS = "same as ";

/** `key|offset;length;checksum`, which ONNX Runtime writes for each buffer of a packed form. */
const PACKED = /^(?<key>[^|]+)\|(?<offset>\d+);(?<length>\d+);[^|;]*;?$/;

/** A node, and the small weights stored in its graph. */
export type OnnxNode = { readonly node: Onnx.INodeProto; readonly constants: readonly Onnx.ITensorProto[] };

/** One of a node's weights, with its file and place. */
export type NodeWeight = { readonly info: WeightInfo; readonly file: string; readonly place: WeightPlace };

/** A model of one node that reads float32 activations `[1, S, columns]` as its first input, and weights. */
export function encodeNode({ node, constants }: OnnxNode, columns: number, weights: readonly NodeWeight[]): Uint8Array {
  const [, ...rest] = node.input!;
  return encodeModel({
    node: [{ ...node, input: [NODE_INPUT, ...rest], output: [NODE_OUTPUT] }],
    initializer: [...constants, ...weights.map(({ info, file, place }) => ({ ...protoOf(info), ...placedAt(file, place) }))],
    input: [valueInfo(NODE_INPUT, FLOAT, [1, "S", columns])],
    output: [valueInfo(NODE_OUTPUT, FLOAT, [1, "S", "N"])],
  });
}

export const NODE_INPUT = "input";
export const NODE_OUTPUT = "output";

function encodeModel(graph: Onnx.IGraphProto): Uint8Array {
  return onnx.ModelProto.encode({
    irVersion: 8,
    producerName: "kvsplice",
    opsetImport: [
      { domain: "", version: OPSET },
      { domain: "com.microsoft", version: CONTRIB_OPSET },
    ],
    graph: { name: "decoder", ...graph },
  }).finish();
}

function protoOf({ name, type, dims }: WeightInfo): Onnx.ITensorProto {
  return { name, dims: [...dims], dataType: ELEMENT_TYPES[type] };
}

function placedAt(file: string, { offset, length, packed }: WeightPlace): Onnx.ITensorProto {
  return {
    dataLocation: onnx.TensorProto.DataLocation.EXTERNAL,
    externalData: [
      { key: "location", value: file },
      { key: "offset", value: String(offset) },
      { key: "length", value: String(length) },
      ...(packed ? [{ key: "prepacked_0", value: `${packed.key}|${packed.offset};${packed.length};0` }] : []),
    ],
  };
}

function weightType(values: WeightValues): WeightType {
  if (values instanceof Float32Array) return "float32";
  if (values instanceof Uint16Array) return "float16";
  return values instanceof Int8Array ? "int8" : "uint8";
}

function bytesOf(values: WeightValues | BigInt64Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function attribute([name, value]: [string, number | readonly number[]]): Onnx.IAttributeProto {
  const { INT, INTS, FLOAT: REAL } = onnx.AttributeProto.AttributeType;
  if (typeof value !== "number") return { name, type: INTS, ints: [...value] };
  return Number.isInteger(value) && !REAL_ATTRIBUTES.has(name) ? { name, type: INT, i: value } : { name, type: REAL, f: value };
}

/** Attributes that are real numbers even if the value happens to be an integer. */
const REAL_ATTRIBUTES = new Set(["alpha", "epsilon", "scale"]);

function valueInfo(name: string, elemType: number, shape: readonly Dimension[]): Onnx.IValueInfoProto {
  const dim = shape.map((size) => (typeof size === "number" ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}
