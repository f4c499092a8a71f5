import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KvCache } from "../../../engine/backend/cpu/cache.js";
import { writeDecoder } from "../../../engine/backend/cpu/decoder.js";
import { Embedding } from "../../../engine/backend/cpu/embedding.js";
import { GraphWriter } from "../../../engine/backend/cpu/onnx.js";
import { PassRunner } from "../../../engine/backend/cpu/pass.js";
import { RotaryTable } from "../../../engine/kv/rotary.js";
import type { ModelFile } from "../../../engine/model/files/model-file.js";
import type { ModelSpec } from "../../../engine/model/spec.js";
import { InferenceSession } from "../../../runtime/index.js";
import { writeFully } from "../../../storage/index.js";

/** Logits `[vocabulary]` after a prompt, of a specification over a file's tensors: one graph, one pass, no store. */
export async function computed(file: ModelFile, spec: ModelSpec, tokens: readonly number[]): Promise<Float32Array> {
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-tiny-"));
  const weights = openSync(join(folder, "weights.bin"), "w");
  try {
    const graph = new GraphWriter("weights.bin", (bytes, offset) => writeFully(weights, bytes, offset));
    writeDecoder(graph, file, spec, "float32", { kind: "answer", slots: 1 });
    writeFileSync(join(folder, "graph.onnx"), graph.encode());
    const single = await InferenceSession.create(join(folder, "graph.onnx"));
    const tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
    const none = () => Promise.reject(new Error("There is one session here."));
    const runner = new PassRunner({ single, batch: none, look: none, adapted: none, close: () => single.release() }, spec, tables, new Embedding(file));
    const [logits] = await runner.run([{ cache: new KvCache(runner.form, tables), tokens, positions: tokens.map((_, i) => i), logits: 1 }]);
    const own = logits!.slice();
    await single.release();
    return own;
  } finally {
    closeSync(weights);
    rmSync(folder, { recursive: true });
  }
}
