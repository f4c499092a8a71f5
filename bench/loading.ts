/**
 * How much memory a model's weights take, and what loading the model costs.
 *
 *     npx tsx bench/loading.ts             a table by tensor type: bits per weight in the file and packed, and the speed of unpacking
 *     npx tsx bench/loading.ts MODEL.gguf  the first load of a model, in a separate cache, and later ones, in separate processes
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGraphs } from "../engine/backend/cpu/build.js";
import { GRAPH_FILES, WEIGHTS_FILE } from "../engine/backend/cpu/graph-folder.js";
import { linear } from "../engine/backend/cpu/linear.js";
import { GraphWriter } from "../engine/backend/cpu/onnx.js";
import { loadModel } from "../engine/index.js";
import { ENCODINGS } from "../engine/model/tensors/index.js";
import { randomTensor } from "../test/support/engine/random-tensor.js";

const [ROWS, COLUMNS] = [4096, 2048];
const LATER_LOADS = 3;

const folder = mkdtempSync(join(tmpdir(), "kvsplice-loading-"));
try {
  const [model, child] = process.argv.slice(2);
  if (child) await load(model!, child);
  else if (model) console.table(loads(model));
  else console.table(await types());
} finally {
  rmSync(folder, { recursive: true });
}

async function types(): Promise<Record<string, object>> {
  const table: Record<string, object> = {};
  for (const type of Object.keys(ENCODINGS) as (keyof typeof ENCODINGS)[]) {
    const tensor = randomTensor(type, ROWS, COLUMNS, 1);
    const write = () => {
      const graph = new GraphWriter();
      graph.node("Identity", [linear(graph, graph.input("input", "float32", [1, "S", COLUMNS]), [{ tensor }], "int8")], {}, ["output"]);
      graph.output("output", [1, "S", ROWS]);
      return graph;
    };
    const { make } = write().groups[0]!;
    make(); // now compiled
    const start = process.cpuUsage();
    make();
    const { user, system } = process.cpuUsage(start);
    const built = join(folder, type);
    await buildGraphs(built, { name: type, graphs: new Map(GRAPH_FILES.map((file) => [file, write()])) });
    const [file, packed] = [tensor.bytes.length, statSync(join(built, WEIGHTS_FILE)).size].map(
      (bytes) => (8 * bytes) / (ROWS * COLUMNS),
    ) as [number, number];
    table[type] = {
      "bits in the file": file.toFixed(2),
      "bits packed": packed.toFixed(2),
      times: (packed / file).toFixed(2),
      "million weights unpacked per CPU second": Math.round((ROWS * COLUMNS) / (user + system)),
    };
  }
  return table;
}

/** What a process prints about itself. */
type Load = { readonly wall_s: number; readonly cpu_s: number; readonly peak_mb: number; readonly rss_mb: number; readonly own_mb: number };

function loads(model: string): Record<string, object> {
  const table: Record<string, object> = {};
  const file = statSync(model).size;
  for (let i = 0; i <= LATER_LOADS; i++) {
    const { stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", import.meta.filename, model, folder], { encoding: "utf8" });
    if (!stdout) throw new Error(stderr);
    const { wall_s, cpu_s, peak_mb, rss_mb, own_mb } = JSON.parse(stdout) as Load;
    table[i === 0 ? "first load" : `load ${i + 1}`] = {
      s: wall_s.toFixed(2),
      "CPU s": cpu_s.toFixed(2),
      "peak MB": peak_mb.toFixed(0),
      "of the file": (peak_mb / (file / 1e6)).toFixed(2),
      "MB after": rss_mb.toFixed(0),
      "MB not mapped": own_mb.toFixed(0),
    };
  }
  const [graphs] = readdirSync(join(folder, "graphs"));
  const built = readdirSync(join(folder, "graphs", graphs!)).reduce(
    (sum, name) => sum + statSync(join(folder, "graphs", graphs!, name)).size,
    0,
  );
  console.log(`${(file / 1e6).toFixed(0)} MB in the file, ${(built / 1e6).toFixed(0)} MB built: ${(built / file).toFixed(2)} times.`);
  return table;
}

async function load(path: string, cacheDir: string): Promise<void> {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  const model = await loadModel({ path, cacheDir });
  const [wall, { user, system }] = [performance.now() - start, process.cpuUsage(cpu)];
  // Computes one token, so that all weights have been read.
  await model.logits({ pieces: [{ tokens: [1], at: 0 }] });
  const status = readFileSync("/proc/self/status", "utf8");
  const megabytes = (key: string) => (Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status)![1]) * 1024) / 1e6;
  const figures: Load = {
    wall_s: wall / 1000,
    cpu_s: (user + system) / 1e6,
    peak_mb: megabytes("VmHWM"),
    rss_mb: megabytes("VmRSS"),
    own_mb: megabytes("RssAnon"),
  };
  process.stdout.write(JSON.stringify(figures));
  await model.close();
}
