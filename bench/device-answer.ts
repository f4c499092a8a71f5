/**
 * Answering on a device through WebGPU compared with the processor: ms for the passes of an answer, on the device alone (10 documents of
 * 130 tokens spliced after they were transferred, and once they are there; a question of 25 tokens over them; the same with a mask, as
 * linking has; one token of an answer, and of four at once; a prompt of 2,048 tokens without any blocks), and for whole answers of the model, on the device
 * and on the processor: the first token over the documents in an order that is new each time, and each further token. Documents and
 * question are arbitrary tokens. `--quick` uses smaller ones, to try the program with only a driver that computes on the processor.
 *
 *     npx tsx bench/device-answer.ts [FILE.gguf] [--quick] [--json] [--device-only]
 */
import { parseArgs } from "node:util";
import type { NumberType } from "../engine/backend/cpu/number-type.js";
import { PROMPT_SLOTS } from "../engine/backend/webgpu/prompt-attention.js";
import { type DeviceBlock, type DeviceRows, type DeviceSplice, PromptPasses } from "../engine/backend/webgpu/prompt-passes.js";
import { defaultCacheDir } from "../engine/cache-dir.js";
import { loadModel, type Model, openStore, type Plan, surveyDevices } from "../engine/index.js";
import { readSpec } from "../engine/model/arch/index.js";
import { openModelFile } from "../engine/model/files/open.js";
import { defaultModelPath } from "../engine/model/language.js";
import { describeMachine } from "./compare/machine.js";
import { type Series, seriesOf } from "./compare/series.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    type: { type: "string", default: "float16" },
    "device-only": { type: "boolean", default: false },
  },
});
const path = positionals[0] ?? (await defaultModelPath());
const [documents, length, asked, long, runs] = options.quick ? [2, 16, 5, 32, 1] : [10, 130, 25, 2048, 7];
/** As the backend computes long prompts. */
const PASS = 1024;
const steps = options.quick ? 2 : 32;

const { hardware, reason } = await surveyDevices({ all: true });
const file = openModelFile(path);
const spec = readSpec(file);
const tokensOf = (count: number, first: number) => Array.from({ length: count }, (_, i) => 3 + ((first + 7 * i) % (spec.vocabulary - 3)));
const positionsFrom = (at: number, count: number) => Array.from({ length: count }, (_, i) => at + i);

/** Milliseconds, after one run that warms up: shaders may be compiled. */
async function timesOf(work: (run: number) => Promise<unknown>, count: number = runs): Promise<Series> {
  await work(0);
  const times: number[] = [];
  for (let run = 1; run <= count; run++) {
    const start = performance.now();
    await work(run);
    times.push(performance.now() - start);
  }
  return seriesOf(times);
}

async function passes(): Promise<Record<string, Series>> {
  const device = await PromptPasses.open({
    file,
    spec,
    id: `bench int8 ${await file.contentHash()}`,
    cacheDir: defaultCacheDir(),
    activations: "int8",
    adapters: [],
    able: { type: options.type as NumberType, fused: true },
  });
  const rows = await device.grown(device.empty(), Math.max(long, documents * length + asked + steps + 8));
  const pass = (tokens: number, masked = false) =>
    device.run([
      {
        cache: rows,
        tokens: tokensOf(tokens, 5),
        positions: positionsFrom(rows.length, tokens),
        visible: masked ? { counts: positionsFrom(0, tokens).map((i) => Math.min(i, rows.length)), shared: rows.length } : undefined,
        logits: 1,
      },
    ]);
  const found: Record<string, Series> = {};
  found["prefill"] = await timesOf(async () => {
    rows.length = 0;
    for (let done = 0; done < long; ) {
      const tokens = Math.min(PASS, long - done);
      await device.run([
        {
          cache: rows,
          tokens: tokensOf(tokens, done),
          positions: positionsFrom(done, tokens),
          logits: done + tokens === long ? 1 : 0,
        },
      ]);
      done += tokens;
    }
  });
  const block = await device.extract(rows, 0, length, "int8");
  const splicesOf = (blocks: readonly DeviceBlock[]): DeviceSplice[] =>
    blocks.map((block, i) => ({ block, positions: Int32Array.from(positionsFrom(i * length, length)), kept: [[0, length]] }));
  found["splice, transferred"] = await timesOf(async () => {
    rows.length = 0;
    const transferred: DeviceBlock[] = [];
    for (let i = 0; i < documents; i++) transferred.push(await device.upload(block));
    await device.splice(rows, splicesOf(transferred));
    await device.extract(rows, 0, 1, "float32"); // waits until it is done
    transferred.forEach((each) => void device.drop(each));
  });
  const held: DeviceBlock[] = [];
  for (let i = 0; i < documents; i++) held.push(await device.upload(block));
  found["splice"] = await timesOf(async () => {
    rows.length = 0;
    await device.splice(rows, splicesOf(held));
    await device.extract(rows, 0, 1, "float32");
  });
  const over = documents * length;
  const after = async (tokens: number, masked = false) => {
    rows.length = over;
    await pass(tokens, masked);
  };
  found["question"] = await timesOf(() => after(asked));
  found["masked question"] = await timesOf(() => after(asked, true));
  found["step"] = await timesOf(() => after(1), steps);
  await device.widen();
  const others: DeviceRows[] = [];
  for (let prompt = 1; prompt < PROMPT_SLOTS; prompt++) {
    const other = await device.grown(device.empty(), over + 1);
    others.push(other);
    await device.splice(other, splicesOf(held));
  }
  const together = [rows, ...others];
  found[`step of ${PROMPT_SLOTS} answers`] = await timesOf(async () => {
    for (const each of together) each.length = over;
    await device.run(together.map((cache) => ({ cache, tokens: tokensOf(1, 5), positions: [over], logits: 1 })));
  }, steps);
  for (const each of together) device.free(each);
  held.forEach((each) => void device.drop(each));
  await device.close();
  return found;
}

async function answers(model: Model): Promise<Record<string, Series>> {
  const store = openStore({ memory: { budget: 2 ** 32 } });
  const sources = Array.from({ length: documents }, (_, i) => ({ tokens: tokensOf(length, 31 * i) }));
  for (const source of sources) await store.put(model.keyOf(source), await model.encode(source), { model: model.name });
  const planOf = (run: number): Plan => ({
    pieces: [
      ...sources.map((_, i) => ({ block: sources[(i + run) % documents]!, at: i * length })),
      { tokens: tokensOf(asked, 11 * run), at: documents * length },
    ],
  });
  let seen = 0;
  const next: number[] = [];
  const first = await timesOf(async () => {
    for await (const _ of model.generate(planOf(seen++ % documents), { store, maxNewTokens: 1, temperature: 0 })) break;
  });
  let last: number | undefined;
  for await (const _ of model.generate(planOf(seen), { store, maxNewTokens: steps, temperature: 0 })) {
    const now = performance.now();
    if (last !== undefined) next.push(now - last);
    last = now;
  }
  await store.close();
  return { "first token": first, ...(next.length > 0 && { "further token": seriesOf(next) }) };
}

const alone = await passes();
file.close();
const whole: Record<string, Record<string, Series>> = {};
for (const device of ["webgpu", ...(options["device-only"] ? [] : ["cpu"])] as const) {
  const notices: string[] = [];
  await using model = await loadModel({ path, device: device as "webgpu" | "cpu", onNotice: (notice) => notices.push(notice) });
  whole[device] = await answers(model);
  if (notices.length > 0) throw new Error(notices.join("\n"));
}

const shape = { documents, length, asked, long };
const result = { machine: describeMachine(), hardware, reason, model: spec.name, shape, passes: alone, answers: whole };
if (options.json) console.log(JSON.stringify(result));
else {
  const { cpu, cores, simd } = result.machine;
  const devices = [...(hardware?.gpus ?? []).map(({ name }) => name), ...(hardware?.drivers ?? []).map(({ library }) => library)];
  const text = ({ median, min, max }: Series) => `${median.toPrecision(3)} (${min.toPrecision(3)} to ${max.toPrecision(3)})`;
  console.log(`${cpu}, ${cores} cores, ${simd}; ${devices.join(", ")}\n${reason}\n`);
  console.log(`${documents} documents of ${length} tokens, a question of ${asked}, a prompt of ${long}; ms\n`);
  console.log(`| ${spec.name} | device |${whole["cpu"] ? " processor |" : ""}\n|---|---|${whole["cpu"] ? "---|" : ""}`);
  for (const [name, series] of Object.entries(alone)) console.log(`| ${name} | ${text(series)} |${whole["cpu"] ? " |" : ""}`);
  for (const [name, series] of Object.entries(whole["webgpu"]!)) {
    const other = whole["cpu"]?.[name];
    console.log(`| ${name} | ${text(series)} |${other ? ` ${text(other)} |` : ""}`);
  }
}
