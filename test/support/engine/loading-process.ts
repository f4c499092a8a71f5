/**
 * A separate process that loads a model: `PATH CACHE [stop]`. It prints each new step of loading; with `stop`, it
 * pauses in the middle of building until it is killed, which is why it builds in the thread that it prints from.
 */
import { CpuBackend } from "../../../engine/backend/cpu/backend.js";
import { graphId } from "../../../engine/backend/cpu/identity.js";
import { contentHash } from "../../../engine/content-hash.js";
import { loadModel } from "../../../engine/index.js";
import type { LoadProgress } from "../../../engine/load-progress.js";
import { readSpec } from "../../../engine/model/arch/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";

const [path, cacheDir, stop] = process.argv.slice(2) as [string, string, string?];
let last: string | undefined;
function onProgress({ step, done, total }: LoadProgress): void {
  if (step !== last) process.stdout.write(`${step}\n`);
  last = step;
  if (!stop || step !== "build" || done <= total / 2) return;
  process.stdout.write("half\n");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

if (stop) {
  const file = openModelFile(path);
  const spec = readSpec(file);
  const id = graphId(await contentHash(file, cacheDir, onProgress), spec, "int8");
  await CpuBackend.open({ path, quantize: undefined, spec, id, adapters: [], cacheDir, activations: "int8", onProgress });
}
const model = await loadModel({ path, cacheDir, onProgress });
await model.close();
process.stdout.write("loaded\n");
