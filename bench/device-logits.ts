/**
 * How far a device's logits are from the processor's. First the reference cases of the bundled model (`test/golden`): the largest
 * difference of the ten highest logits from the reference, on the processor and on the device, each with activations as by default, and
 * how many greedy answers are the reference's. Then a tiny model of each family that the device computes, with float32 weights: the
 * correlation of the device's logits with the processor's, both over one prompt, with activations as by default and in float32.
 *
 *     npx tsx bench/device-logits.ts [--only golden|families] [--json]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Activations } from "../engine/backend/cpu/activations.js";
import { mustHave } from "../engine/backend/webgpu/lack.js";
import { PromptPasses } from "../engine/backend/webgpu/prompt-passes.js";
import { trial } from "../engine/backend/webgpu/trial.js";
import type { Computes } from "../engine/backend/webgpu/trial-passes.js";
import { loadModel } from "../engine/index.js";
import { readSpec } from "../engine/model/arch/index.js";
import { openModelFile } from "../engine/model/files/open.js";
import { collect, golden, planOf } from "../test/support/engine/golden.js";
import { computed } from "../test/support/engine/models/computed.js";
import { writeTiny } from "../test/support/engine/models/tiny-file.js";
import { PROMPT, TINY_MODELS } from "../test/support/engine/models/tiny-models.js";
import { memoryStore } from "../test/support/rag/fakes.js";

const { values: options } = parseArgs({ options: { only: { type: "string" }, json: { type: "boolean", default: false } } });
const tried = await trial("webgpu");
if ("error" in tried) throw new Error(tried.error);

type Cases = { readonly device: string; readonly largest: number; readonly answers: number; readonly cases: number };

async function casesOn(device: "cpu" | "webgpu"): Promise<Cases> {
  await using model = await loadModel({ device, precision: "float32" });
  const store = memoryStore();
  let [largest, answers] = [0, 0];
  for (const each of golden.cases) {
    let logits: Float32Array | undefined;
    const onLogits = (all: Float32Array) => (logits ??= all.slice());
    const tokens = await collect(model.generate(planOf(each), { store, maxNewTokens: 12, onLogits }));
    for (const [i, id] of each.top_ids.entries()) largest = Math.max(largest, Math.abs(logits![id]! - each.top_logits[i]!));
    if (tokens.map(({ text }) => text).join("") === each.greedy_text) answers++;
  }
  return { device, largest, answers, cases: golden.cases.length };
}

type Family = { readonly name: string; readonly rounded: number; readonly exact: number };

async function familyOf(name: string, folder: string): Promise<Family | undefined> {
  const path = join(folder, `${name.replaceAll(/\W+/g, "-")}.gguf`);
  writeTiny(path, TINY_MODELS[name]!);
  const file = openModelFile(path);
  try {
    const spec = readSpec(file);
    try {
      mustHave({ spec, adapters: [], encoding: "exact", activations: "int8" });
    } catch {
      return undefined;
    }
    const correlation = async (activations: Activations) => {
      const device = await PromptPasses.open({
        file,
        spec,
        id: `${name} ${activations}`,
        cacheDir: folder,
        activations,
        adapters: [],
        able: tried as Computes,
      });
      const rows = await device.grown(device.empty(), PROMPT.length);
      const positions = [...PROMPT.keys()];
      const [found] = await device.run([{ cache: rows, tokens: PROMPT, positions, visible: undefined, logits: 1 }]);
      device.free(rows);
      await device.close();
      return correlationOf(found!, await computed(file, spec, PROMPT, activations));
    };
    return { name, rounded: await correlation("int8"), exact: await correlation("float32") };
  } finally {
    file.close();
  }
}

function correlationOf(one: Float32Array, other: Float32Array): number {
  const mean = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
  const [a, b] = [one.map((value) => value - mean(one)), other.map((value) => value - mean(other))];
  const product = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
}

const cases: Cases[] = [];
const families: Family[] = [];
if (options.only !== "families") for (const device of ["cpu", "webgpu"] as const) cases.push(await casesOn(device));
if (options.only !== "golden") {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-device-logits-"));
  try {
    for (const name of Object.keys(TINY_MODELS)) {
      const family = await familyOf(name, folder);
      if (family) families.push(family);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (options.json) console.log(JSON.stringify({ numbers: tried.type, cases, families }));
else {
  console.log(`The device computes in ${tried.type}.\n`);
  if (cases.length > 0)
    console.log("| computed on | largest difference of the ten highest logits | the reference's answers |\n|---|---|---|");
  for (const { device, largest, answers, cases: all } of cases) console.log(`| ${device} | ${largest.toFixed(2)} | ${answers} of ${all} |`);
  if (families.length > 0) console.log("\n| family | correlation, as by default | in float32 |\n|---|---|---|");
  for (const { name, rounded, exact } of families) console.log(`| ${name} | ${rounded.toFixed(5)} | ${exact.toFixed(7)} |`);
}
