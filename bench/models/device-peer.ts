/**
 * node-llama-cpp on the same device through Vulkan, for comparison with device.ts and device-answer.ts: prefill of 1,325 and of
 * 2,048 tokens, 25 tokens over 1,300, and a further token, in ms, with and without flash attention.
 *
 *     npm install --no-save --force @node-llama-cpp/linux-x64-vulkan@3.22.1   in bench/
 *     npx tsx models/device-peer.ts FILE.gguf                                   in bench/
 */
import { getLlama, LlamaLogLevel, type Token } from "node-llama-cpp";
import { seriesOf } from "../compare/series.js";

const [path] = process.argv.slice(2);
if (path === undefined) throw new Error("usage: npx tsx models/device-peer.ts FILE.gguf");
const [RUNS, STEPS, CONTEXT, OVER, ASKED] = [5, 32, 4096, 1300, 25];

const llama = await getLlama({
  gpu: "vulkan",
  build: "never",
  skipDownload: true,
  logLevel: LlamaLogLevel.error,
  progressLogs: false,
});
console.log((await llama.getGpuDeviceNames()).join(", "));
const model = await llama.loadModel({ modelPath: path, gpuLayers: "max" });
const tokens = (count: number, first: number) => Array.from({ length: count }, (_, i) => (100 + ((first + 7 * i) % 9000)) as Token);

for (const flashAttention of [true, false]) {
  const context = await model.createContext({ contextSize: CONTEXT, batchSize: CONTEXT, flashAttention });
  const sequence = context.getSequence();
  const firstToken = async (ids: Token[]) => {
    const start = performance.now();
    await sequence.evaluate(ids, { temperature: 0 }).next();
    return performance.now() - start;
  };
  const median = async (work: (run: number) => Promise<number>) => {
    await work(0);
    const times: number[] = [];
    for (let run = 1; run <= RUNS; run++) times.push(await work(run));
    return seriesOf(times).median;
  };
  const found: Record<string, number> = {};
  for (const count of [OVER + ASKED, 2048]) {
    found[`prefill of ${count}`] = await median(async (run) => {
      await sequence.clearHistory();
      return firstToken(tokens(count, 13 * run));
    });
  }
  found[`${ASKED} over ${OVER}`] = await median(async (run) => {
    await sequence.clearHistory();
    await firstToken(tokens(OVER, run));
    return firstToken(tokens(ASKED, 3 * run));
  });
  let [count, start] = [0, 0];
  for await (const _ of sequence.evaluate(tokens(5, 9), { temperature: 0, yieldEogToken: true })) {
    if (count === 4) start = performance.now();
    if (++count === STEPS + 5) break;
  }
  found["a further token"] = (performance.now() - start) / STEPS;
  console.log(JSON.stringify({ flashAttention, ms: found }));
  await context.dispose();
}
