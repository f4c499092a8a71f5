/**
 * Encoding on a device through WebGPU compared with the processor: tokens/s of passes over 32 documents of 130 tokens, over 10,
 * and over one of 2,048, without packing and the store; then 300 documents as precompute requests them, in batches that find their size.
 * The processor encodes one document of 130 tokens per pass. `--quick` uses smaller ones, to try the program with only a driver
 * that computes on the processor.
 *
 * `--type float32` and `--activations float32` are for comparing ways of multiplying.
 *
 *     npx tsx bench/device.ts [FILE.gguf] [--quick] [--json]
 */
import { parseArgs } from "node:util";
import type { Activations } from "../engine/backend/cpu/activations.js";
import { CpuBackend } from "../engine/backend/cpu/backend.js";
import type { NumberType } from "../engine/backend/cpu/number-type.js";
import { BatchHost } from "../engine/backend/webgpu/batch-host.js";
import { BatchSession } from "../engine/backend/webgpu/batch-session.js";
import { defaultCacheDir } from "../engine/cache-dir.js";
import { loadModel, surveyDevices } from "../engine/index.js";
import { readSpec } from "../engine/model/arch/index.js";
import { openModelFile } from "../engine/model/files/open.js";
import { defaultModelPath } from "../engine/model/language.js";
import { describeMachine } from "./compare/machine.js";
import { seriesOf } from "./compare/series.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    type: { type: "string", default: "float16" },
    activations: { type: "string", default: "int8" },
    json: { type: "boolean", default: false },
  },
});
const path = positionals[0] ?? (await defaultModelPath());
const [length, long, many, runs] = options.quick ? [16, 64, 16, 2] : [130, 2048, 300, 5];
const SHAPES = [
  { documents: 32, tokens: length },
  { documents: 10, tokens: length },
  { documents: 1, tokens: long },
];

const { hardware, reason } = await surveyDevices({ all: true });
const file = openModelFile(path);
const spec = readSpec(file);
const activations = options.activations as Activations;
const graphs = { spec, id: `bench ${activations} ${await file.contentHash()}`, cacheDir: defaultCacheDir(), activations };
const itemOf = (tokens: number, first: number) => {
  const positions = Array.from({ length: tokens }, (_, i) => i);
  return { tokens: positions.map((i) => 3 + ((first + 7 * i) % (spec.vocabulary - 3))), positions, from: 0 };
};

/** Tokens/s: the median of some passes, after one that warms up. */
async function rateOf(tokens: number, pass: () => Promise<unknown>): Promise<number> {
  await pass();
  const rates: number[] = [];
  for (let run = 0; run < runs; run++) {
    const start = performance.now();
    await pass();
    rates.push((1000 * tokens) / (performance.now() - start));
  }
  return seriesOf(rates).median;
}

const device = await BatchSession.open({ ...graphs, file, adapters: [], able: { type: options.type as NumberType, fused: true } });
const host = new BatchHost(spec, file, device.graph);
const passes: number[] = [];
for (const { documents, tokens } of SHAPES) {
  const items = Array.from({ length: documents }, (_, i) => itemOf(tokens, 31 * i));
  const pass = host.prepare({ items, precision: "int8" });
  passes.push(await rateOf(documents * tokens, () => device.run(pass)));
}
await device.close();

const processor = await CpuBackend.open({ ...graphs, path, quantize: undefined, adapters: [] });
const cache = processor.createCache();
cache.reserve(length);
const alone = await rateOf(length, async () => {
  cache.truncate(0);
  await processor.run([{ cache, ...itemOf(length, 0), logits: 0 }]);
  cache.extract(0, length, "int8");
});
cache.free();
await processor.close();
file.close();

await using model = await loadModel({ path, device: "webgpu" });
const start = performance.now();
let asked = 0;
const lanes = Array.from({ length: model.encodesAtOnce ?? 1 }, async () => {
  while (asked < many) await model.encode(itemOf(length, 17 * asked++));
});
await Promise.all(lanes);
const whole = (1000 * many * length) / (performance.now() - start);

const result = { machine: describeMachine(), hardware, reason, model: spec.name, passes, asked: whole, processor: alone };
if (options.json) console.log(JSON.stringify(result));
else {
  const rate = (value: number) => value.toPrecision(3);
  const { cpu, cores, simd } = result.machine;
  const devices = [...(hardware?.gpus ?? []).map(({ name }) => name), ...(hardware?.drivers ?? []).map(({ library }) => library)];
  console.log(`${cpu}, ${cores} cores, ${simd}; ${devices.join(", ")}\n${reason}\n`);
  console.log(
    `| tokens/s, ${spec.name} | 32 documents of ${length} a pass | 10 | one of ${long} | ${many} asked for, in batches | processor |`,
  );
  console.log(`|---|---|---|---|---|---|\n| | ${[...passes, whole, alone].map(rate).join(" | ")} |`);
}
