/**
 * Where a pass of the default model spends its time, by kind of operator, for passes of one token, of a question's 27
 * over ten documents, of an encoded document's 130, and of 256 in a prefill. Then passes over a long past, by number of
 * tokens, with and without ONNX Runtime's arena, and the time of alternative linear layers.
 *
 *     npx tsx bench/pass.ts
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KvCache } from "../engine/backend/cpu/cache.js";
import { Embedding } from "../engine/backend/cpu/embedding.js";
import { GraphWriter } from "../engine/backend/cpu/onnx.js";
import { PassRunner } from "../engine/backend/cpu/pass.js";
import { graphFolder, type Sessions } from "../engine/backend/cpu/session.js";
import { defaultCacheDir } from "../engine/cache-dir.js";
import { loadModel } from "../engine/index.js";
import { RotaryTable } from "../engine/kv/rotary.js";
import { readSpec } from "../engine/model/arch/index.js";
import { openModelFile } from "../engine/model/files/open.js";
import { defaultModelPath } from "../engine/model/language.js";
import { InferenceSession, Tensor } from "../runtime/index.js";
import { seriesOf } from "./compare/series.js";

const PASSES = [
  { tokens: 1, rows: 1316, runs: 40 },
  { tokens: 27, rows: 1316, runs: 30 },
  { tokens: 130, rows: 0, runs: 20 },
  { tokens: 256, rows: 1000, runs: 10 },
];
const KINDS: Record<string, string> = {
  MatMulNBits: "linear layers",
  FusedMatMul: "attention, products",
  Softmax: "attention, softmax and mask",
  Add: "attention, softmax and mask",
};
const LONG_PAST = 4000;
/** Like the engine's session, whose graphs were optimised when they were built. */
const options = { graphOptimizationLevel: "disabled", enableMemPattern: false, enableCpuMemArena: true } as const;

const model = await loadModel(); // builds its graph
const graph = join(graphFolder(model.id, defaultCacheDir()), "decoder.onnx");
await model.close();

const file = openModelFile(await defaultModelPath());
const spec = readSpec(file);
const embedding = new Embedding(file);
const tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
const random = (size: number) => Float32Array.from({ length: size }, () => Math.random() - 0.5);

/** A pass of the engine over meaningless rows of KV. */
function passOver(session: InferenceSession, { tokens, rows }: { readonly tokens: number; readonly rows: number }): () => Promise<unknown> {
  const none = () => Promise.reject(new Error("A pass of one prompt."));
  const sessions: Sessions = { single: session, batch: none, look: none, adapted: none, measuring: none, close: async () => undefined };
  const runner = new PassRunner(sessions, spec, tables, embedding);
  const cache = new KvCache(runner.form, tables);
  cache.reserve(rows + tokens + 1);
  for (let layer = 0; layer < spec.layers.length; layer++) {
    const { k, v } = cache.rows(layer, 0, rows);
    for (const part of [k, v]) part.set(random(part.length));
  }
  cache.append(Array.from({ length: rows }, (_, row) => row));
  const part = {
    cache,
    tokens: Array.from({ length: tokens }, (_, i) => 1000 + i),
    positions: Array.from({ length: tokens }, (_, i) => rows + i),
    logits: 1,
  };
  return async () => {
    await runner.run([part]);
    cache.truncate(rows);
  };
}

async function timed(runs: number, run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = -2; i < runs; i++) {
    const start = performance.now();
    await run();
    if (i >= 0) times.push(performance.now() - start);
  }
  return seriesOf(times).median;
}

const plain = await InferenceSession.create(graph, options);
const table: Record<string, Record<string, string>> = {};
const folder = mkdtempSync(join(tmpdir(), "kvsplice-pass-"));
for (const pass of PASSES) {
  const ms = await timed(pass.runs, passOver(plain, pass));
  const watched = await InferenceSession.create(graph, {
    ...options,
    enableProfiling: true,
    profileFilePrefix: join(folder, `${pass.tokens}`),
  });
  const run = passOver(watched, pass);
  for (let i = 0; i < pass.runs; i++) await run();
  watched.endProfiling();
  await watched.release();
  const events = JSON.parse(
    readFileSync(join(folder, readdirSync(folder).find((name) => name.startsWith(`${pass.tokens}_`))!), "utf8"),
  ) as { name: string; dur: number; args: { op_name?: string } }[];
  const column: Record<string, number> = {};
  for (const { name, dur, args } of events) {
    if (!name.endsWith("_kernel_time") || !args.op_name) continue;
    const kind = KINDS[args.op_name] ?? "other operators";
    column[kind] = (column[kind] ?? 0) + dur / 1000 / pass.runs;
  }
  const name = `${pass.tokens} token${pass.tokens > 1 ? "s" : ""} over ${pass.rows} rows`;
  table[name] = {
    "ms per pass": ms.toFixed(1),
    "ms per token": (ms / pass.tokens).toFixed(2),
    ...Object.fromEntries(Object.entries(column).map(([kind, each]) => [kind, each.toFixed(1)])),
  };
}
rmSync(folder, { recursive: true });
console.table(table);

const withoutArena = await InferenceSession.create(graph, { ...options, enableCpuMemArena: false });
const long: Record<string, Record<string, string>> = {};
for (const tokens of [32, 64, 85, 128, 256]) {
  const pass = { tokens, rows: LONG_PAST };
  const [ms, fresh] = [await timed(6, passOver(plain, pass)), await timed(6, passOver(withoutArena, pass))];
  const { heads } = spec.layers[0]!.attention;
  const scores = (tokens * (LONG_PAST + tokens) * heads * 4) / 2 ** 20;
  long[`${tokens} tokens over ${LONG_PAST} rows`] = {
    "MiB of scores per layer": scores.toFixed(0),
    "ms per pass": ms.toFixed(0),
    "ms per token": (ms / tokens).toFixed(2),
    "without the arena": (fresh / tokens).toFixed(2),
  };
}
await plain.release();
await withoutArena.release();
file.close();
console.table(long);

const [INNER, OUTER] = [576, 3072];
const LINEAR: Record<string, (writer: GraphWriter, input: string) => string> = {
  "4-bit, int8 activations per block (kvsplice)": (writer, input) =>
    writer.contrib(
      "MatMulNBits",
      [
        input,
        writer.weight(new Uint8Array((OUTER * INNER) / 2).fill(0x5a), [OUTER, INNER / 32, 16]),
        writer.weight(random((OUTER * INNER) / 32), [(OUTER * INNER) / 32]),
        writer.weight(new Uint8Array((OUTER * INNER) / 64).fill(0x88), [(OUTER * INNER) / 64]),
      ],
      { K: INNER, N: OUTER, bits: 4, block_size: 32, accuracy_level: 4 },
    ),
  "8-bit, int8 activations per pass": (writer, input) =>
    writer.contrib("DynamicQuantizeMatMul", [
      input,
      writer.weight(
        Uint8Array.from({ length: INNER * OUTER }, (_, i) => i % 251),
        [INNER, OUTER],
      ),
      writer.weight(random(OUTER), [OUTER]),
      writer.weight(new Uint8Array(OUTER).fill(128), [OUTER]),
    ]),
  float32: (writer, input) => writer.node("MatMul", [input, writer.weight(random(INNER * OUTER), [INNER, OUTER])]),
};
const linear: Record<string, Record<string, string>> = {};
for (const [name, layer] of Object.entries(LINEAR)) {
  const writer = new GraphWriter();
  writer.node("Identity", [layer(writer, writer.input("x", "float32", ["M", INNER]))], {}, ["y"]);
  writer.output("y", ["M", OUTER]);
  const session = await InferenceSession.create(writer.encodeWhole(), options);
  linear[name] = {};
  for (const tokens of [1, 8, 27, 130, 256]) {
    const feeds = { x: new Tensor("float32", random(tokens * INNER), [tokens, INNER]) };
    const fetches = { y: new Tensor("float32", new Float32Array(tokens * OUTER), [tokens, OUTER]) };
    const ms = await timed(200, () => session.run(feeds, fetches));
    linear[name][`${tokens} tokens, GFLOP/s`] = ((2 * tokens * INNER * OUTER) / ms / 1e6).toFixed(0);
  }
  await session.release();
}
console.table(linear);
