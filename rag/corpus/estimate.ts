import { readFile, stat } from "node:fs/promises";

import { encodeSafetensors, type BlockKey, type Model } from "../../engine/index.js";
import { KvspliceError } from "../../plan/index.js";
import type { LoadProblem } from "../document.js";
import { listFiles } from "../load/list.js";
import { loadFile } from "../load/load.js";
import { type Chunk, splitDocument } from "../split.js";
import type { PrecomputeOptions, Workshop } from "./precompute.js";
import { documentSource } from "../prompt.js";

/** What a run would do, and what it would cost. */
export type Estimate = {
  readonly files: number;
  /** Of these, files that would be read anew, and how many of them have no text. */
  readonly changed: number;
  readonly refused: number;
  /** To be encoded: what the store has not yet. */
  readonly chunks: number;
  readonly tokens: number;
  /** What that adds to the store. */
  readonly bytes: number;
  /** By the speed of a few chunks, embedding included. */
  readonly seconds: number;
  readonly passedOver: Readonly<Record<string, number>>;
  readonly problems: readonly LoadProblem[];
};

/** Chunks that are encoded to measure with; the first warms up. */
const MEASURED = 4;

export type EstimateOptions = Pick<PrecomputeOptions, "ocr" | "followLinks" | "signal"> & {
  /** Called after each file. */
  readonly onProgress?: ((progress: { readonly path: string; readonly done: number; readonly total: number }) => void) | undefined;
};

/**
 * Reads and splits what a precompute of these files would, changes nothing, and encodes a few chunks to tell the cost of
 * the others.
 *
 * @throws KvspliceError `bad_file` for a name that does not exist, `cancelled`
 */
export async function estimate(workshop: Workshop, names: readonly string[], options: EstimateOptions = {}): Promise<Estimate> {
  const { records, model, store } = workshop;
  const { followLinks, signal, onProgress } = options;
  const { files, passedOver, problems: listed } = await listFiles(names, { followLinks, isKnown: (path) => records.knows(path) });
  const problems = [...listed];
  const fresh = new Set<BlockKey>();
  const sample: Chunk[] = [];
  let [changed, refused, tokens] = [0, 0, 0];
  for (const [done, path] of files.entries()) {
    if (signal?.aborted) throw new KvspliceError("cancelled", "Cancelled; nothing was changed.", { cause: signal.reason });
    const known = records.file(path);
    const status = await stat(path).catch(() => undefined);
    if (status !== undefined && known?.size_bytes === status.size && known.modified_ms === status.mtimeMs) continue;
    changed++;
    const loaded = await readFile(path).then((bytes) => loadFile(path, bytes, options), (error: Error) => ({ documents: [], problems: [{ path, reason: `It cannot be read (${error.message}); check its permissions.` }] }));
    problems.push(...loaded.problems);
    const chunks: Chunk[] = [];
    for (const document of loaded.documents) chunks.push(...(await splitDocument(document, { tokenizer: model.tokenizer, card: model.card, signal })));
    if (chunks.length === 0) refused++;
    for (const chunk of chunks) {
      const key = model.keyOf(documentSource(model, chunk.tokens));
      if (fresh.has(key) || (await store.has(key))) continue;
      fresh.add(key);
      tokens += chunk.tokens.length;
      if (sample.length < MEASURED) sample.push(chunk);
    }
    onProgress?.({ path, done: done + 1, total: files.length });
  }
  const { bytesPerToken, secondsPerToken } = await measure(workshop, sample);
  return {
    files: files.length, changed, refused, chunks: fresh.size, tokens, bytes: Math.round(tokens * bytesPerToken), seconds: tokens * secondsPerToken, passedOver, problems,
  };
}

async function measure({ model, embedder }: Workshop, [warm, ...sample]: readonly Chunk[]): Promise<{ bytesPerToken: number; secondsPerToken: number }> {
  if (warm === undefined) return { bytesPerToken: 0, secondsPerToken: 0 };
  const measured = sample.length === 0 ? [warm] : sample;
  const encoder = await embedder();
  await encoded(model, warm);
  const start = performance.now();
  await encoder.embed(measured.map(({ title, text }) => `${title}\n${text}`));
  let bytes = 0;
  for (const chunk of measured) bytes += await encoded(model, chunk);
  const tokens = measured.reduce((sum, chunk) => sum + chunk.tokens.length, 0);
  return { bytesPerToken: bytes / tokens, secondsPerToken: (performance.now() - start) / 1000 / tokens };
}

/** @returns bytes of the chunk's block as the store keeps it */
async function encoded(model: Model, { tokens }: Chunk): Promise<number> {
  const source = documentSource(model, tokens);
  const block = await model.encode(source);
  return encodeSafetensors(model.keyOf(source), block).reduce((sum, part) => sum + part.byteLength, 0);
}
