import { readFile, stat } from "node:fs/promises";

import { type BlockKey, encodeSafetensors, type Model } from "../../engine/index.js";
import { KvspliceError } from "../../plan/index.js";
import type { LoadProblem } from "../document.js";
import { listFiles } from "../load/list.js";
import { loadFile } from "../load/load.js";
import { documentSource } from "../question-plan.js";
import { type Chunk, splitDocument } from "../split.js";
import { embeddedText, type PrecomputeContext, type PrecomputeOptions, wasReadOtherwise } from "./precompute.js";
import { sideBySide } from "./side-by-side.js";

/** What a run would do, and what it would cost. */
export type Estimate = {
  readonly files: number;
  /** Of these, how many files would be read, and how many of those have no text. */
  readonly changed: number;
  readonly refused: number;
  /** To be encoded: what the store does not have yet. */
  readonly chunks: number;
  readonly tokens: number;
  /** Bytes that this adds to the store. */
  readonly bytes: number;
  /** Extrapolated from a few chunks, including embedding. */
  readonly seconds: number;
  readonly passedOver: Readonly<Record<string, number>>;
  readonly problems: readonly LoadProblem[];
};

/** Chunks encoded to measure the speed; the first is a warm-up. */
const MEASURED = 4;

/** Options for an estimate. */
export type EstimateOptions = Pick<PrecomputeOptions, "ocr" | "followLinks" | "signal"> & {
  /** Called after each file. */
  readonly onProgress?: ((progress: { readonly path: string; readonly done: number; readonly total: number }) => void) | undefined;
};

/**
 * Reads and splits the files as a precompute would, without changing anything, and encodes a few chunks to estimate the
 * cost of the rest.
 *
 * @throws KvspliceError `bad_file` for a name that does not exist, `cancelled`
 */
export async function estimate(context: PrecomputeContext, names: readonly string[], options: EstimateOptions = {}): Promise<Estimate> {
  const { records, model, store } = context;
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
    if (status !== undefined && known?.size_bytes === status.size && known.modified_ms === status.mtimeMs && !wasReadOtherwise(known))
      continue;
    changed++;
    const loaded = await readFile(path).then(
      (bytes) => loadFile(path, bytes, options),
      (error: Error) => ({ documents: [], problems: [{ path, reason: `It cannot be read (${error.message}); check its permissions.` }] }),
    );
    problems.push(...loaded.problems);
    const chunks: Chunk[] = [];
    for (const document of loaded.documents)
      chunks.push(...(await splitDocument(document, { tokenizer: model.tokenizer, card: model.card, signal })));
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
  const { bytesPerToken, secondsPerToken } = await measure(context, sample);
  return {
    files: files.length,
    changed,
    refused,
    chunks: fresh.size,
    tokens,
    bytes: Math.round(tokens * bytesPerToken),
    seconds: tokens * secondsPerToken,
    passedOver,
    problems,
  };
}

async function measure(
  { model, embedder }: PrecomputeContext,
  [warm, ...sample]: readonly Chunk[],
): Promise<{ bytesPerToken: number; secondsPerToken: number }> {
  if (warm === undefined) return { bytesPerToken: 0, secondsPerToken: 0 };
  const measured = sample.length === 0 ? [warm] : sample;
  const encoder = await embedder();
  await encoded(model, warm);
  const start = performance.now();
  await encoder.embed(measured.map(embeddedText));
  let bytes = 0;
  await sideBySide(measured, model.encodesAtOnce ?? 1, async (chunk) => {
    const own = await encoded(model, chunk);
    bytes += own;
  });
  const tokens = measured.reduce((sum, chunk) => sum + chunk.tokens.length, 0);
  return { bytesPerToken: bytes / tokens, secondsPerToken: (performance.now() - start) / 1000 / tokens };
}

/** @returns bytes of the chunk's block in the store */
async function encoded(model: Model, { tokens }: Chunk): Promise<number> {
  const source = documentSource(model, tokens);
  const block = await model.encode(source);
  return encodeSafetensors(model.keyOf(source), block).reduce((sum, part) => sum + part.byteLength, 0);
}
