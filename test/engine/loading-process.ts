/**
 * A process of its own that loads a model: `PATH CACHE [stop]`. It prints each new step of loading; with `stop`, it
 * stands still in the middle of building until it is killed.
 */
import { loadModel } from "../../engine/index.js";

const [path, cacheDir, stop] = process.argv.slice(2) as [string, string, string?];
let last: string | undefined;
const model = await loadModel({
  path,
  cacheDir,
  onProgress({ step, done, total }) {
    if (step !== last) process.stdout.write(`${step}\n`);
    last = step;
    if (stop && step === "build" && done > total / 2) {
      process.stdout.write("half\n");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }
  },
});
await model.close();
process.stdout.write("loaded\n");
