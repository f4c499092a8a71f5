import { fileURLToPath } from "node:url";
import { KvCache } from "../../../engine/backend/cpu/cache.js";
import { Embedding } from "../../../engine/backend/cpu/embedding.js";
import { graphId } from "../../../engine/backend/cpu/identity.js";
import { PassRunner } from "../../../engine/backend/cpu/pass.js";
import { openSessions } from "../../../engine/backend/cpu/session.js";
import { defaultCacheDir } from "../../../engine/cache-dir.js";
import type { Plan } from "../../../engine/index.js";
import { RotaryTable } from "../../../engine/kv/rotary.js";
import { readSpec } from "../../../engine/model/arch/index.js";
import { openModelFile } from "../../../engine/model/files/open.js";
import { keptRuns } from "../../../plan/index.js";

const DEFAULT_MODEL = fileURLToPath(new URL("../../../models/kvsplice-135m.gguf", import.meta.url));

/**
 * Logits of a plan without any block: the graph computes each document at its actual positions, rotating K itself, with
 * each token seeing only its own document. Blocks, lookups in JavaScript and splices are not involved.
 */
export async function referenceEngine(path = DEFAULT_MODEL, cacheDir = defaultCacheDir()): Promise<(plan: Plan) => Promise<Float32Array>> {
  const file = openModelFile(path);
  const spec = readSpec(file);
  const tables = spec.rotaries.map(({ frequencies }) => new RotaryTable(frequencies));
  const id = graphId(await file.contentHash(), spec, "float32");
  const sessions = await openSessions(id, file, spec, { cacheDir, activations: "float32" });
  const runner = new PassRunner(sessions, spec, tables, new Embedding(file));
  return async (plan) => {
    const cache = new KvCache(runner.form, tables);
    cache.reserve(4096);
    const fresh: { tokens: number[]; positions: number[]; counts: number[] } = { tokens: [], positions: [], counts: [] };
    for (const piece of plan.pieces) {
      if (!("block" in piece)) {
        piece.tokens.forEach((token, i) => {
          fresh.tokens.push(token);
          fresh.positions.push(piece.at + i);
          fresh.counts.push(cache.length);
        });
        continue;
      }
      const { tokens, offsets } = piece.block;
      const positions = tokens.map((_, i) => piece.at + (offsets?.[i] ?? i));
      const own = new KvCache(runner.form, tables);
      await runner.run([{ cache: own, tokens, positions, logits: 0 }]);
      for (const [start, end] of keptRuns(tokens.length, piece.omit ?? [])) {
        for (let layer = 0; layer < spec.layers.length; layer++) {
          const [from, to] = [own.rows(layer, start, end), cache.rows(layer, cache.length, cache.length + end - start)];
          to.k.set(from.k);
          to.v.set(from.v);
        }
        cache.append(positions.slice(start, end));
      }
    }
    const [logits] = await runner.run([
      {
        cache,
        tokens: fresh.tokens,
        positions: fresh.positions,
        visible: { counts: fresh.counts, shared: cache.length },
        logits: 1,
      },
    ]);
    return logits!;
  };
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i]!)), 0);
}
