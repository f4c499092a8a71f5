import { InferenceSession, Tensor } from "../../../runtime/index.js";
import { floatToHalf } from "../../model/tensors/quantize.js";
import type { NumberType } from "../cpu/number-type.js";
import { GraphWriter } from "../cpu/onnx.js";
import { attendsRightly } from "./trial-attention.js";

/** What a device can do. */
export type Abilities = {
  /** The type of numbers that it multiplies fastest. */
  readonly type: NumberType;
  /** Whether its fused attention kernel is right: ONNX Runtime's is not if fewer than 16 threads form a subgroup (1.30). */
  readonly fused: boolean;
};

/** The speed of a trial's passes, and their first results. */
export type Computes = Abilities & { readonly gflops: number; readonly results: readonly number[] };

const COLUMNS = 1024;
const GROUP = 32;
/** Enough that moving input and results takes little of the time. */
const PRODUCTS = 8;

/** Passes grow until one takes this long or has this many rows: a driver that computes on the CPU stops at the first. */
const LONG_MS = 30;
const LEAST_ROWS = 4;
const MOST_ROWS = 4096;
const TIMES_AS_MANY = 4;

/** Times passes of the main work of encoding, products with 4-bit weights: on a device in float16, if it has that. */
export async function computesOf(provider: "cpu" | "webgpu"): Promise<Computes> {
  if (provider === "cpu") return { ...(await timed(provider, "float32")), fused: true };
  const fastest = await timed(provider, "float16").catch(() => timed(provider, "float32"));
  return { ...fastest, fused: await attendsRightly(provider) };
}

async function timed(provider: "cpu" | "webgpu", type: NumberType): Promise<Omit<Computes, "fused">> {
  const session = await InferenceSession.create(trialGraph(type), { executionProviders: [provider], logSeverityLevel: 4 });
  try {
    const pass = async (rows: number) => {
      const input = Float32Array.from(scattered(rows * COLUMNS), (value) => value / 128 - 1);
      const start = performance.now();
      const { output } = await session.run({ input: new Tensor("float32", input, [1, rows, COLUMNS]) });
      return { ms: performance.now() - start, values: output!.data as Float32Array };
    };
    for (let rows = LEAST_ROWS; ; rows *= TIMES_AS_MANY) {
      const { values } = await pass(rows); // may compile shaders of this size
      const { ms } = await pass(rows);
      if (ms < LONG_MS && rows < MOST_ROWS) continue;
      const gflops = (2 * rows * COLUMNS * COLUMNS * PRODUCTS) / ms / 1e6;
      return { gflops, results: [...values.slice(0, COLUMNS)], type };
    }
  } finally {
    await session.release();
  }
}

function trialGraph(type: NumberType): Uint8Array {
  const graph = new GraphWriter();
  const input = graph.input("input", "float32", [1, "S", COLUMNS]);
  let values = type === "float32" ? input : graph.cast(input, type);
  const codes = scattered((COLUMNS * COLUMNS) / 2);
  const scale = 0.2 / Math.sqrt(COLUMNS);
  const groups = (COLUMNS * COLUMNS) / GROUP;
  const scales = type === "float32" ? new Float32Array(groups).fill(scale) : new Uint16Array(groups).fill(floatToHalf(scale));
  for (let product = 0; product < PRODUCTS; product++) {
    const weights = [graph.weight(codes, [COLUMNS, COLUMNS / GROUP, GROUP / 2]), graph.weight(scales, [scales.length])];
    const attributes = { K: COLUMNS, N: COLUMNS, bits: 4, block_size: GROUP, accuracy_level: 4 };
    values = graph.contrib("MatMulNBits", [values, ...weights], attributes);
  }
  graph.cast(values, "float32", "output");
  graph.output("output", [1, "S", COLUMNS]);
  return graph.encodeWhole();
}

/** Bytes without a pattern, the same every time, from a linear congruential generator. */
function scattered(length: number): Uint8Array {
  let state = 1;
  return Uint8Array.from({ length }, () => (state = (Math.imul(state, 1664525) + 1013904223) | 0) >>> 24);
}
