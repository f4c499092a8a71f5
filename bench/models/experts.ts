/**
 * The cost of experts: passes over layers in the shapes of models with experts, compared with dense layers that compute as much.
 * Usage: npx tsx models/experts.ts [LAYERS [THREADS]], in bench/
 */
import { KvCache } from "../../engine/backend/cpu/cache.js";
import { writeDecoder } from "../../engine/backend/cpu/decoder.js";
import { Embedding } from "../../engine/backend/cpu/embedding.js";
import { GraphWriter } from "../../engine/backend/cpu/onnx.js";
import { PassRunner } from "../../engine/backend/cpu/pass.js";
import { RotaryTable, rotaryFrequencies } from "../../engine/kv/rotary.js";
import type { ModelFile, RawTensor } from "../../engine/model/files/model-file.js";
import type { FeedForwardSpec, ModelSpec } from "../../engine/model/spec.js";
import { InferenceSession } from "../../runtime/index.js";

const [LAYERS, THREADS] = [Number(process.argv[2] ?? 1), Number(process.argv[3] ?? 2)];
const ROUNDS = 15;

type Shape = {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  readonly width: number;
  readonly experts: number;
  readonly used: number;
};

const SHAPES: Readonly<Record<string, Shape>> = {
  "Qwen3-30B-A3B": { hidden: 2048, heads: 32, kvHeads: 4, headSize: 128, width: 768, experts: 128, used: 8 },
  "gpt-oss-20b": { hidden: 2880, heads: 64, kvHeads: 8, headSize: 64, width: 2880, experts: 32, used: 4 },
};
const VOCABULARY = 64;

function specOf(
  { hidden, heads, kvHeads, headSize, width, experts, used }: Shape,
  kind: FeedForwardSpec["kind"],
): { spec: ModelSpec; shapes: Map<string, number[]> } {
  const shapes = new Map<string, number[]>([["token_embd.weight", [VOCABULARY, hidden]]]);
  const linear = (tensor: string, ...shape: number[]) => (shapes.set(tensor, shape), { tensor });
  const norm = (tensor: string) => (shapes.set(tensor, [hidden]), tensor);
  const dense = used * width;
  const layers = Array.from({ length: LAYERS }, (_, l) => ({
    attention: {
      heads,
      kvHeads,
      headSize,
      before: norm(`${l}.attn_norm`),
      query: linear(`${l}.q`, heads * headSize, hidden),
      key: linear(`${l}.k`, kvHeads * headSize, hidden),
      value: linear(`${l}.v`, kvHeads * headSize, hidden),
      output: linear(`${l}.o`, hidden, heads * headSize),
      rotary: 0,
      scale: 0.1,
    },
    feedForward: {
      before: norm(`${l}.ffn_norm`),
      activation: "silu" as const,
      ...(kind === "dense"
        ? {
            kind,
            width: dense,
            gate: linear(`${l}.gate`, dense, hidden),
            up: linear(`${l}.up`, dense, hidden),
            down: linear(`${l}.down`, hidden, dense),
          }
        : {
            ...{ kind, width, experts, used, router: linear(`${l}.router`, experts, hidden) },
            ...{
              gate: linear(`${l}.gate`, experts, width, hidden),
              up: linear(`${l}.up`, experts, width, hidden),
              down: linear(`${l}.down`, experts, hidden, width),
            },
          }),
    },
    residualScale: 1,
  }));
  const spec: ModelSpec = {
    ...{
      name: "random",
      contextLength: 4096,
      variant: "",
      vocabulary: VOCABULARY,
      hidden,
      normEpsilon: 1e-6,
      embedding: { tensor: "token_embd.weight", scale: 1 },
    },
    ...{
      rotaries: [{ dimensions: headSize, frequencies: rotaryFrequencies(headSize, 1e6), magnitude: 1 }],
      layers,
      norm: norm("norm"),
      head: { weight: { tensor: "token_embd.weight" }, scale: 1 },
    },
  };
  return { spec, shapes };
}

/** Q4_0 tensors of random codes with small scales; norms and routers are floats. */
function fileOf(shapes: Map<string, number[]>): ModelFile {
  const random = new Uint8Array(18 * 4096);
  for (let i = 0; i < random.length; i++) random[i] = i % 18 === 0 ? 0 : i % 18 === 1 ? 0x24 : Math.random() * 256;
  const made = (name: string, shape: readonly number[]): RawTensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    if (shape.length === 1 || name.endsWith("router")) {
      return { name, type: "F32", shape, bytes: new Uint8Array(Float32Array.from({ length: size }, () => Math.random() - 0.5).buffer) };
    }
    const bytes = new Uint8Array((size / 32) * 18);
    for (let at = 0; at < bytes.length; at += random.length) bytes.set(random.subarray(0, Math.min(random.length, bytes.length - at)), at);
    return { name, type: "Q4_0", shape, bytes };
  };
  const tensor = (name: string) => made(name, shapes.get(name)!);
  const rows = (name: string, _: number, count: number) => made(name, [count, shapes.get(name)!.at(-1)!]);
  const info = (name: string) => ({ name, type: "Q4_0" as const, shape: shapes.get(name)! });
  return {
    tensor,
    rows,
    info,
    has: (name: string) => shapes.has(name),
    names: () => shapes.keys(),
    metadata: {},
    origin: "gguf",
    path: "random",
    parts: [],
    variant: "",
    contentHash: () => Promise.resolve(""),
    close: () => undefined,
  };
}

for (const [name, shape] of Object.entries(SHAPES)) {
  for (const kind of ["dense", "experts"] as const) {
    const { spec, shapes } = specOf(shape, kind);
    const file = fileOf(shapes);
    const graph = new GraphWriter();
    writeDecoder(graph, file, spec, "int8", { kind: "answer", slots: 1 });
    const bytes = graph.encodeWhole();
    const start = performance.now();
    const single = await InferenceSession.create(bytes, { intraOpNumThreads: THREADS, enableMemPattern: false });
    const opened = performance.now() - start;
    const tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
    const sessions = { single } as unknown as ConstructorParameters<typeof PassRunner>[0];
    const runner = new PassRunner(sessions, spec, tables, new Embedding(file));
    const times: string[] = [];
    for (const count of [1, 16, 128]) {
      const tokens = Array.from({ length: count }, (_, i) => i % VOCABULARY);
      let best = Infinity;
      for (let round = 0; round < ROUNDS; round++) {
        const begin = performance.now();
        await runner.run([{ cache: new KvCache(runner.form, tables), tokens, positions: tokens.map((_, i) => i), logits: 1 }]);
        best = Math.min(best, performance.now() - begin);
      }
      times.push(`${count} tokens ${(best / LAYERS).toFixed(2)} ms per layer`);
    }
    const mb = (bytes.length / 2 ** 20 / LAYERS).toFixed(0);
    console.log(`${name}, ${kind}: ${times.join(", ")}; ${mb} MiB per layer, opened in ${(opened / LAYERS).toFixed(0)} ms per layer`);
    await single.release();
  }
}
