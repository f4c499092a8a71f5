/**
 * Cost of a decode step's attention by the type of the cache's KV: processor time of one layer in one thread, in ms. The layer
 * is that of Qwen2.5 1.5B: 12 heads over 2 of KV, 128 wide. `GroupQueryAttention` updates its cache in place, with the step's
 * row after the others.
 *
 *     npx tsx bench/kv-types.ts [--rows 1300,6000]
 */
import { parseArgs } from "node:util";
import onnxProto from "onnx-proto";
import { InferenceSession, Tensor } from "../runtime/index.js";

const { onnx } = onnxProto as unknown as { onnx: typeof onnxProto.onnx };
const { FLOAT, FLOAT16, INT8, INT32 } = onnx.TensorProto.DataType;
const { INT, INTS, STRING } = onnx.AttributeProto.AttributeType;

const [HEADS, KV_HEADS, WIDTH] = [12, 2, 128];
const GROUP = HEADS / KV_HEADS;
const RUNS = 60;

type Kind = "float32" | "float16" | "int8";
const ELEMENTS = { float32: FLOAT, float16: FLOAT16, int8: INT8 };

function values(kind: Kind, dims: readonly number[]): Tensor {
  const length = dims.reduce((a, b) => a * b, 1);
  const noise = () => Math.random() - 0.5;
  switch (kind) {
    case "float32":
      return new Tensor(kind, Float32Array.from({ length }, noise), dims);
    case "float16": // the bits of numbers between 1/8 and 1/2
      return new Tensor(
        kind,
        Uint16Array.from({ length }, () => 0x3000 + Math.floor(Math.random() * 0x800)),
        dims,
      );
    case "int8":
      return new Tensor(
        kind,
        Int8Array.from({ length }, () => Math.round(254 * noise())),
        dims,
      );
  }
}

const value = (name: string, elemType: number, shape: readonly (number | string)[]) => ({
  name,
  type: { tensorType: { elemType, shape: { dim: shape.map((d) => (typeof d === "number" ? { dimValue: d } : { dimParam: d })) } } },
});

function attribute(name: string, given: number | readonly number[] | string) {
  if (typeof given === "string") return { name, type: STRING, s: Buffer.from(given) };
  return typeof given === "number" ? { name, type: INT, i: given } : { name, type: INTS, ints: [...given] };
}

const node = (
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attributes: Readonly<Record<string, number | readonly number[] | string>> = {},
) => ({
  opType,
  domain: opType === "GroupQueryAttention" ? "com.microsoft" : "",
  input: [...input],
  output: [...output],
  attribute: Object.entries(attributes).map(([name, given]) => attribute(name, given)),
});

type Graph = {
  readonly nodes: ReturnType<typeof node>[];
  readonly inputs: ReturnType<typeof value>[];
  readonly outputs: ReturnType<typeof value>[];
};

async function cpu_ms({ nodes, inputs, outputs }: Graph, feeds: Record<string, Tensor>, fetches: Record<string, Tensor>): Promise<number> {
  const scale = { name: "scale", dims: [1], dataType: FLOAT, rawData: new Uint8Array(Float32Array.of(0.01).buffer) };
  const model = onnx.ModelProto.encode({
    irVersion: 8,
    opsetImport: [
      { domain: "", version: 20 },
      { domain: "com.microsoft", version: 1 },
    ],
    graph: { name: "attention", node: nodes, input: inputs, output: outputs, initializer: [scale] },
  }).finish();
  const session = await InferenceSession.create(model, { intraOpNumThreads: 1, graphOptimizationLevel: "extended", logSeverityLevel: 3 });
  for (let i = 0; i < 5; i++) await session.run(feeds, fetches);
  const start = process.cpuUsage();
  for (let i = 0; i < RUNS; i++) await session.run(feeds, fetches);
  const { user, system } = process.cpuUsage(start);
  await session.release();
  return (user + system) / 1000 / RUNS;
}

/** As kvsplice computes it: two products and a softmax, over rows `[rows, kv_heads, width]` that `widened` makes float32. */
function products(rows: number, kind: Kind, widened?: (name: string, to: string) => ReturnType<typeof node>): Promise<number> {
  const own = kind === "float16" && !widened ? kind : "float32";
  const [k, v] = widened ? ["wide k", "wide v"] : ["k", "v"];
  const graph: Graph = {
    nodes: [
      ...(widened ? [widened("k", k!), widened("v", v!)] : []),
      node("Transpose", [k!], ["turned k"], { perm: [1, 2, 0] }),
      node("MatMul", ["q", "turned k"], ["scores"]),
      node("Softmax", ["scores"], ["shares"], { axis: -1 }),
      node("Transpose", [v!], ["turned v"], { perm: [1, 0, 2] }),
      node("MatMul", ["shares", "turned v"], ["o"]),
    ],
    inputs: [
      value("q", ELEMENTS[own], [KV_HEADS, GROUP, WIDTH]),
      ...["k", "v"].map((name) => value(name, ELEMENTS[kind], ["rows", KV_HEADS, WIDTH])),
    ],
    outputs: [value("o", ELEMENTS[own], [KV_HEADS, GROUP, WIDTH])],
  };
  const cache = () => values(kind, [rows, KV_HEADS, WIDTH]);
  const out = values(own, [KV_HEADS, GROUP, WIDTH]);
  return cpu_ms(graph, { q: values(own, [KV_HEADS, GROUP, WIDTH]), k: cache(), v: cache() }, { o: out });
}

function groupQuery(rows: number, kind: Kind): Promise<number> {
  const own = kind === "int8" ? "float32" : kind;
  const isInt8 = kind === "int8";
  const fresh = { q: [1, 1, HEADS * WIDTH], k: [1, 1, KV_HEADS * WIDTH], v: [1, 1, KV_HEADS * WIDTH] };
  const past = [1, KV_HEADS, "room", WIDTH];
  const graph: Graph = {
    nodes: [
      node(
        "GroupQueryAttention",
        ["q", "k", "v", "past k", "past v", "last", "total", ...(isInt8 ? ["", "", "", "", "", "scale", "scale"] : [])],
        ["o", "new k", "new v"],
        {
          num_heads: HEADS,
          kv_num_heads: KV_HEADS,
          ...(isInt8 && { kv_cache_bit_width: 8, k_quant_type: "PER_TENSOR", v_quant_type: "PER_TENSOR" }),
        },
      ),
    ],
    inputs: [
      ...Object.entries(fresh).map(([name, shape]) => value(name, ELEMENTS[own], shape)),
      ...["past k", "past v"].map((name) => value(name, ELEMENTS[kind], past)),
      value("last", INT32, [1]),
      value("total", INT32, []),
    ],
    outputs: [value("o", ELEMENTS[own], fresh.q), ...["new k", "new v"].map((name) => value(name, ELEMENTS[kind], past))],
  };
  const [k, v] = [values(kind, [1, KV_HEADS, rows + 1, WIDTH]), values(kind, [1, KV_HEADS, rows + 1, WIDTH])];
  const feeds = {
    ...Object.fromEntries(Object.entries(fresh).map(([name, shape]) => [name, values(own, shape)])),
    "past k": k,
    "past v": v,
    last: new Tensor("int32", Int32Array.of(rows), [1]),
    total: new Tensor("int32", Int32Array.of(rows + 1), []),
  };
  return cpu_ms(graph, feeds, { o: values(own, fresh.q), "new k": k, "new v": v });
}

const WAYS: Readonly<Record<string, (rows: number) => Promise<number>>> = {
  "float32, products (kvsplice)": (rows) => products(rows, "float32"),
  "float16, cast to float32, products": (rows) => products(rows, "float16", (name, to) => node("Cast", [name], [to], { to: FLOAT })),
  "float16, products": (rows) => products(rows, "float16"),
  "int8, DequantizeLinear, products": (rows) =>
    products(rows, "int8", (name, to) => node("DequantizeLinear", [name, "scale"], [to], { axis: 2 })),
  "float32, GroupQueryAttention": (rows) => groupQuery(rows, "float32"),
  "float16, GroupQueryAttention": (rows) => groupQuery(rows, "float16"),
  "int8 with one scale, GroupQueryAttention": (rows) => groupQuery(rows, "int8"),
};

const { values: given } = parseArgs({ options: { rows: { type: "string", default: "1300,6000" } } });
const rows = given.rows.split(",").map(Number);
console.log(
  `| KV in the cache | ${rows.map((count) => `${count.toLocaleString("en")} rows`).join(" | ")} |\n|---|${rows.map(() => "---|").join("")}`,
);
for (const [name, way] of Object.entries(WAYS)) {
  const times: string[] = [];
  for (const count of rows) times.push((await way(count)).toFixed(2));
  console.log(`| ${name} | ${times.join(" | ")} |`);
}
