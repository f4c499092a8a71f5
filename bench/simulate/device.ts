import type { BatchResults } from "../../engine/backend/webgpu/batch-session.js";
import type { EncoderCalls } from "../../engine/backend/webgpu/calls.js";
import { PACKED } from "../../engine/backend/webgpu/packing.js";
import type { ModelSpec } from "../../engine/model/spec.js";
import { answer, memoryOf, moved } from "../../runtime/thread.js";

/** What a pass takes on an H200 by docs/gpu.md: 1,300 tokens at 12,600 tokens/s and 4,160 at 14,900, Qwen2.5-Coder 1.5B. */
const PASS_MS = 23;
const TOKEN_MS = 0.0615;

let spec: ModelSpec;
const clock = new Int32Array(new SharedArrayBuffer(4));

// The program of a device's thread that computes nothing: it is blocked for as long as a pass takes, and returns zeros.
answer<EncoderCalls>({
  async open(options) {
    ({ spec } = options);
    const graph = { inputs: ["rows", "own", "group"], outputs: PACKED };
    return { room: { mostTokens: Infinity, kvBytes: undefined, several: true }, graph };
  },
  async encode({ feeds }) {
    const start = performance.now();
    const { kvHeads, headSize } = spec.layers[0]!.attention;
    const [tokens, rows, group] = [feeds["embeddings"]!.dims[1]!, feeds["rows"]!.dims[0]!, Number(feeds["group"]!.data[0])];
    const layers = spec.layers.length;
    const results: BatchResults = {
      "k.codes": new Int32Array((layers * rows * kvHeads * headSize) / 4),
      "v.codes": new Int32Array((layers * rows * kvHeads * headSize) / 4),
      "k.scales": new Float32Array((layers * rows * kvHeads * headSize) / group).fill(1),
      "v.scales": new Float32Array(layers * rows * kvHeads).fill(1),
    };
    Atomics.wait(clock, 0, 0, PASS_MS + TOKEN_MS * tokens - (performance.now() - start));
    return moved({ results, ms: performance.now() - start }, memoryOf(Object.values(results)));
  },
  close: async () => undefined,
});
