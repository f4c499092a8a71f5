/**
 * Alternative ways to splice 10 documents of 130 tokens (the default model's shape), compared with kvsplice's: plain
 * JavaScript, WebAssembly that writes to its own memory and is copied from there, and ONNX Runtime. Medians of
 * interleaved rounds.
 *
 *     npx tsx bench/splice-alternatives.ts [rounds]
 *
 * Worker threads are not included: onnxruntime-node refuses tensors over a SharedArrayBuffer ("Invalid argument"), so
 * their output would have to be copied once more.
 */
import "../runtime/telemetry.js";
import ort from "onnxruntime-node";
import { KvCache } from "../engine/backend/cpu/cache.js";
import { createKernels } from "../engine/backend/cpu/kernels.js";
import { GraphWriter } from "../engine/backend/cpu/onnx.js";
import { allocateBlock, type Float32Block, GROUP_TOKENS, type Int8Block } from "../engine/kv/block.js";
import { RotaryTable, rotaryFrequencies } from "../engine/kv/rotary.js";
import { keptAs, likeLayers } from "../test/support/engine/plain-kv.js";

const ROUNDS = Number(process.argv[2] ?? 31);
const [DOCUMENTS, TOKENS, LAYERS, HEADS, HEAD_SIZE] = [10, 130, 30, 3, 64];
const WIDTH = HEADS * HEAD_SIZE;
const HALF = HEAD_SIZE / 2;
const LAYER = TOKENS * WIDTH;
const FORM = { layers: likeLayers(LAYERS, HEADS, HEAD_SIZE) };
const GROUPS = Math.ceil(TOKENS / GROUP_TOKENS);

const POSITIONS = 8192;
const rotary = new RotaryTable(rotaryFrequencies(HEAD_SIZE, 100_000));
const table = { cos: new Float32Array(POSITIONS * HALF), sin: new Float32Array(POSITIONS * HALF) };
for (let position = 0; position < POSITIONS; position++) {
  table.cos.set(rotary.row(position).subarray(0, HALF), position * HALF);
  table.sin.set(rotary.row(position).subarray(HALF), position * HALF);
}
const floats = Array.from({ length: DOCUMENTS }, (): Float32Block => {
  const block = allocateBlock(FORM.layers, TOKENS);
  for (const values of [block.k, block.v]) values.forEach((_, i) => (values[i] = Math.random() - 0.5));
  return block;
});
const bytes = floats.map((block) => keptAs(block, "int8") as Int8Block);
const rowsOf = () => Array.from({ length: LAYERS }, () => new Float32Array(DOCUMENTS * LAYER));
const [k, v] = [rowsOf(), rowsOf()];

const variants = new Map<string, () => void | Promise<void>>();

for (const [name, blocks] of [
  ["float32", floats],
  ["int8", bytes],
] as const) {
  const cache = new KvCache(FORM, [rotary]);
  const positions = blocks.map((_, i) => Int32Array.from({ length: TOKENS }, (_, token) => i * TOKENS + token));
  variants.set(`${name}: kvsplice`, () => {
    cache.truncate(0);
    blocks.forEach((block, i) => cache.splice(block, positions[i]!));
  });
}

variants.set("float32: JavaScript", () => {
  floats.forEach((block, document) => {
    for (let layer = 0; layer < LAYERS; layer++) {
      v[layer]!.set(block.v.subarray(layer * LAYER, (layer + 1) * LAYER), document * LAYER);
      for (let token = 0; token < TOKENS; token++) {
        turn(block.k, (layer * TOKENS + token) * WIDTH, k[layer]!, (document * TOKENS + token) * WIDTH, document * TOKENS + token);
      }
    }
  });
});

variants.set("int8: JavaScript", () => {
  bytes.forEach((block, document) => {
    for (let layer = 0; layer < LAYERS; layer++) {
      for (let row = 0; row < TOKENS * HEADS; row++) {
        widen(
          block.v,
          layer * LAYER + row * HEAD_SIZE,
          v[layer]!,
          document * LAYER + row * HEAD_SIZE,
          block.vScales[layer * TOKENS * HEADS + row]!,
        );
      }
      for (let token = 0; token < TOKENS; token++) {
        const scales = (layer * GROUPS + Math.floor(token / GROUP_TOKENS)) * WIDTH;
        turnScaled(
          block.k,
          (layer * TOKENS + token) * WIDTH,
          k[layer]!,
          (document * TOKENS + token) * WIDTH,
          document * TOKENS + token,
          block.kScales,
          scales,
        );
      }
    }
  });
});

const memory = new WebAssembly.Memory({ initial: 32, maximum: 32 });
const kernels = createKernels(memory, FORM.layers[0]!, HALF);
const [angles, scales, from, to] = [0, 128 << 10, 256 << 10, 1 << 20] as const;
const f32 = new Float32Array(memory.buffer);
const i8 = new Int8Array(memory.buffer);
const layAngles = (document: number) => {
  for (let token = 0; token < TOKENS; token++) {
    const row = (document * TOKENS + token) * HALF;
    f32.set(table.cos.subarray(row, row + HALF), angles / 4 + token * HEAD_SIZE);
    f32.set(table.sin.subarray(row, row + HALF), angles / 4 + token * HEAD_SIZE + HALF);
  }
};
const takeOut = (into: Float32Array, document: number) => into.set(f32.subarray(to / 4, to / 4 + LAYER), document * LAYER);

variants.set("float32: WebAssembly, copied out", () => {
  floats.forEach((block, document) => {
    layAngles(document);
    for (let layer = 0; layer < LAYERS; layer++) {
      v[layer]!.set(block.v.subarray(layer * LAYER, (layer + 1) * LAYER), document * LAYER);
      f32.set(block.k.subarray(layer * LAYER, (layer + 1) * LAYER), from / 4);
      kernels.rotate_float32(from, to, angles, TOKENS);
      takeOut(k[layer]!, document);
    }
  });
});

variants.set("int8: WebAssembly, copied out", () => {
  bytes.forEach((block, document) => {
    layAngles(document);
    for (let layer = 0; layer < LAYERS; layer++) {
      i8.set(block.v.subarray(layer * LAYER, (layer + 1) * LAYER), from);
      f32.set(block.vScales.subarray(layer * TOKENS * HEADS, (layer + 1) * TOKENS * HEADS), scales / 4);
      kernels.widen_int8(from, to, TOKENS * HEADS, scales);
      takeOut(v[layer]!, document);
      i8.set(block.k.subarray(layer * LAYER, (layer + 1) * LAYER), from);
      for (let start = 0; start < TOKENS; start += GROUP_TOKENS) {
        const at = (layer * GROUPS + start / GROUP_TOKENS) * WIDTH;
        f32.set(block.kScales.subarray(at, at + WIDTH), scales / 4);
        const tokens = Math.min(GROUP_TOKENS, TOKENS - start);
        kernels.rotate_int8(from + start * WIDTH, to + start * WIDTH * 4, angles + start * HEAD_SIZE * 4, tokens, scales);
      }
      takeOut(k[layer]!, document);
    }
  });
});

const graph = new GraphWriter();
const places = graph.input("positions", "int64", [1, "S"]);
const [cos, sin] = [graph.weight(table.cos, [POSITIONS, HALF]), graph.weight(table.sin, [POSITIONS, HALF])];
for (let layer = 0; layer < LAYERS; layer++) {
  graph.contrib("RotaryEmbedding", [graph.input(`in_k.${layer}`, "float32", [1, "S", WIDTH]), places, cos, sin], {}, [`k.${layer}`]);
  graph.node("Identity", [graph.input(`in_v.${layer}`, "float32", [1, "S", WIDTH])], {}, [`v.${layer}`]);
  for (const name of [`k.${layer}`, `v.${layer}`]) graph.output(name, [1, "S", WIDTH]);
}
const session = await ort.InferenceSession.create(graph.encodeWhole());
variants.set("float32: ONNX Runtime", async () => {
  for (const [document, block] of floats.entries()) {
    const tensor = (values: Float32Array, at: number) => new ort.Tensor("float32", values.subarray(at, at + LAYER), [1, TOKENS, WIDTH]);
    const feeds: Record<string, ort.Tensor> = {
      positions: new ort.Tensor(
        "int64",
        BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt(document * TOKENS + i)),
        [1, TOKENS],
      ),
    };
    const fetches: Record<string, ort.Tensor> = {};
    for (let layer = 0; layer < LAYERS; layer++) {
      feeds[`in_k.${layer}`] = tensor(block.k, layer * LAYER);
      feeds[`in_v.${layer}`] = tensor(block.v, layer * LAYER);
      fetches[`k.${layer}`] = tensor(k[layer]!, document * LAYER);
      fetches[`v.${layer}`] = tensor(v[layer]!, document * LAYER);
    }
    await session.run(feeds, fetches);
  }
});

const times = new Map([...variants.keys()].map((name): [string, number[]] => [name, []]));
// ONNX Runtime's threads keep spinning for a while after a run, which would slow down whatever comes next.
const runtime = [...variants].filter(([name]) => name.includes("ONNX"));
for (const interleaved of [[...variants].filter((each) => !runtime.some(([name]) => name === each[0])), runtime]) {
  for (let round = -3; round < ROUNDS; round++) {
    for (const [name, run] of interleaved) {
      const start = performance.now();
      await run();
      if (round >= 0) times.get(name)!.push(performance.now() - start);
    }
  }
}
console.table(
  Object.fromEntries(
    [...times]
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([name, ms]) => {
        const sorted = ms.toSorted((a, b) => a - b);
        return [name, { "median ms": sorted[sorted.length >> 1]!.toFixed(1), "fastest ms": sorted[0]!.toFixed(1) }];
      }),
  ),
);

function widen(values: Int8Array, from: number, into: Float32Array, to: number, scale: number): void {
  for (let i = 0; i < HEAD_SIZE; i++) into[to + i] = values[from + i]! * scale;
}

function turn(values: Float32Array, from: number, into: Float32Array, to: number, position: number): void {
  const { cos, sin } = table;
  const row = position * HALF;
  for (let head = 0; head < WIDTH; head += HEAD_SIZE) {
    for (let i = 0; i < HALF; i++) {
      const a = values[from + head + i]!;
      const b = values[from + head + HALF + i]!;
      into[to + head + i] = a * cos[row + i]! - b * sin[row + i]!;
      into[to + head + HALF + i] = b * cos[row + i]! + a * sin[row + i]!;
    }
  }
}

function turnScaled(
  values: Int8Array,
  from: number,
  into: Float32Array,
  to: number,
  position: number,
  scales: Float32Array,
  scalesAt: number,
): void {
  const { cos, sin } = table;
  const row = position * HALF;
  for (let head = 0; head < WIDTH; head += HEAD_SIZE) {
    for (let i = 0; i < HALF; i++) {
      const a = values[from + head + i]! * scales[scalesAt + head + i]!;
      const b = values[from + head + HALF + i]! * scales[scalesAt + head + HALF + i]!;
      into[to + head + i] = a * cos[row + i]! - b * sin[row + i]!;
      into[to + head + HALF + i] = b * cos[row + i]! + a * sin[row + i]!;
    }
  }
}
