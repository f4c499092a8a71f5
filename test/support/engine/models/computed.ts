import type { Activations } from "../../../../engine/backend/cpu/activations.js";
import { KvCache } from "../../../../engine/backend/cpu/cache.js";
import { type Purpose, writeDecoder } from "../../../../engine/backend/cpu/decoder.js";
import { Embedding } from "../../../../engine/backend/cpu/embedding.js";
import { GraphWriter } from "../../../../engine/backend/cpu/onnx.js";
import { PassRunner } from "../../../../engine/backend/cpu/pass.js";
import { RotaryTable } from "../../../../engine/kv/rotary.js";
import type { ModelFile } from "../../../../engine/model/files/model-file.js";
import type { ModelSpec } from "../../../../engine/model/spec.js";
import { InferenceSession } from "../../../../runtime/index.js";

/** Logits `[vocabulary]` after a prompt, for a specification with a file's tensors: one graph, one pass, no store. */
export async function computed(
  file: ModelFile,
  spec: ModelSpec,
  tokens: readonly number[],
  activations: Activations = "float32",
): Promise<Float32Array> {
  return withRunner(file, spec, activations, async (runner, cache) => {
    const [logits] = await runner.run([{ cache: cache(), tokens, positions: tokens.map((_, i) => i), logits: 1 }]);
    return logits!.slice();
  });
}

/** Gives passes over one prompt, `look` included, and caches for them, to `use`. */
export async function withRunner<T>(
  file: ModelFile,
  spec: ModelSpec,
  activations: Activations,
  use: (runner: PassRunner, cache: () => KvCache) => Promise<T>,
): Promise<T> {
  const opened: InferenceSession[] = [];
  const open = async (purpose: Purpose) => {
    const graph = new GraphWriter();
    writeDecoder(graph, file, spec, activations, purpose);
    const session = await InferenceSession.create(graph.encodeWhole());
    opened.push(session);
    return session;
  };
  const close = async () => {
    for (const session of opened) await session.release();
  };
  try {
    const tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
    const none = () => Promise.reject(new Error("There is no such session here."));
    const single = await open({ kind: "answer", slots: 1 });
    const sessions = { single, look: () => open({ kind: "look" }), batch: none, adapted: none, measuring: none, close };
    const runner = new PassRunner(sessions, spec, tables, new Embedding(file));
    return await use(runner, () => new KvCache(runner.form, tables));
  } finally {
    await close();
  }
}
