/**
 * How far the KV of a document encoded on a device through WebGPU differs from the processor's, and how far both differ from
 * that of float32 activations on the processor: the larger of K's and V's root mean square. A few tokens are enough, and are
 * all that a driver that computes on the processor can handle.
 *
 *     npx tsx bench/device-kv.ts [FILE.gguf] [--tokens N] [--json]
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { Activations } from "../engine/backend/cpu/activations.js";
import type { NumberType } from "../engine/backend/cpu/number-type.js";
import { differenceOf } from "../engine/backend/webgpu/open.js";
import { defaultCacheDir } from "../engine/cache-dir.js";
import { defaultModelPath, loadTokenizer } from "../engine/index.js";
import { readSpec } from "../engine/model/arch/index.js";
import { openModelFile } from "../engine/model/files/open.js";
import { openBatchEncoder } from "../test/support/engine/batch-encoder.js";
import { withRunner } from "../test/support/engine/models/computed.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: "string", default: "8" },
    type: { type: "string", default: "float16" },
    json: { type: "boolean", default: false },
  },
});
const path = positionals[0] ?? (await defaultModelPath());
const text = readFileSync(new URL("../examples/corpus/chess.md", import.meta.url), "utf8");
const tokens = (await loadTokenizer({ path })).tokenizer.encode(text).slice(0, Number(options.tokens));
const document = { tokens, positions: [...tokens.keys()], from: 0 };

const file = openModelFile(path);
const spec = readSpec(file);
const onProcessor = (activations: Activations) =>
  withRunner(file, spec, activations, async (runner, createCache) => {
    const cache = createCache();
    cache.reserve(tokens.length);
    await runner.run([{ cache, ...document, logits: 1 }]);
    return cache.extract(0, tokens.length, "float32");
  });
const [processor, exact] = [await onProcessor("int8"), await onProcessor("float32")];

const id = `bench int8 ${await file.contentHash()}`;
const encoder = await openBatchEncoder({
  file,
  spec,
  id,
  cacheDir: defaultCacheDir(),
  activations: "int8",
  adapters: [],
  able: { type: options.type as NumberType, fused: true },
});
const [device] = await encoder.encode({ items: [document], precision: "float32" });
await encoder.close();
file.close();

const off = {
  device_from_processor: differenceOf(processor, device!),
  device_from_float32: differenceOf(exact, device!),
  processor_from_float32: differenceOf(exact, processor),
};
if (options.json) console.log(JSON.stringify({ model: spec.name, tokens: tokens.length, ...off }));
else {
  const cells = Object.values(off).map((value) => `${(100 * value).toFixed(1)} %`);
  console.log("| | tokens | device from processor | device from float32 | processor from float32 |\n|---|---|---|---|---|");
  console.log(`| ${spec.name} | ${tokens.length} | ${cells.join(" | ")} |`);
}
