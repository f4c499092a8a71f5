import { KvCache } from "../../../engine/backend/cpu/cache.js";
import { writeDecoder } from "../../../engine/backend/cpu/decoder.js";
import { Embedding } from "../../../engine/backend/cpu/embedding.js";
import { GraphWriter } from "../../../engine/backend/cpu/onnx.js";
import { PassRunner } from "../../../engine/backend/cpu/pass.js";
import { RotaryTable } from "../../../engine/kv/rotary.js";
import type { ModelFile } from "../../../engine/model/files/model-file.js";
import type { ModelSpec } from "../../../engine/model/spec.js";
import { InferenceSession } from "../../../runtime/index.js";

/** Logits `[vocabulary]` after a prompt, of a specification over a file's tensors: one graph, one pass, no store. */
export async function computed(file: ModelFile, spec: ModelSpec, tokens: readonly number[]): Promise<Float32Array> {
  const graph = new GraphWriter();
  writeDecoder(graph, file, spec, "float32", { kind: "answer", slots: 1 });
  const single = await InferenceSession.create(graph.encodeWhole());
  try {
    const tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
    const none = () => Promise.reject(new Error("There is one session here."));
    const runner = new PassRunner({ single, batch: none, look: none, adapted: none, close: () => single.release() }, spec, tables, new Embedding(file));
    const [logits] = await runner.run([{ cache: new KvCache(runner.form, tables), tokens, positions: tokens.map((_, i) => i), logits: 1 }]);
    return logits!.slice();
  } finally {
    await single.release();
  }
}
