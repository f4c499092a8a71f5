import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, rename, rm, writeFile } from "node:fs/promises";
import { writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import envPaths from "env-paths";
import { InferenceSession } from "onnxruntime-node";
import { storageError } from "../storage-error.js";
import type { RotaryTable } from "../kv/rotary.js";
import type { ModelConfig } from "../weights/config.js";
import type { GgufFile } from "../weights/gguf.js";
import { GRAPH_VERSION, writeDecoder } from "./decoder.js";
import type { Activations } from "./linear.js";
import { GraphWriter } from "./onnx.js";

const GRAPH_FILE = "decoder.onnx";
const WEIGHTS_FILE = "weights.bin";

/** Names what a graph computes: the model's content, the graph's version, and how activations are handled. */
export function graphId(contentHash: string, activations: Activations): string {
  return createHash("sha256").update(`${contentHash} ${GRAPH_VERSION} ${activations}`).digest("hex");
}

/** Where built graphs are kept unless the caller says otherwise: `KVSPLICE_CACHE_DIR`, or the user's cache folder. */
export function defaultCacheDir(): string {
  return process.env["KVSPLICE_CACHE_DIR"] ?? envPaths("kvsplice", { suffix: "" }).cache;
}

export type SessionOptions = { readonly cacheDir: string; readonly activations: Activations; readonly threads?: number };

/** The model's inference session, over a graph that is built once for each content and kept in `cacheDir`. */
export async function openSession(id: string, file: GgufFile, config: ModelConfig, table: RotaryTable, options: SessionOptions): Promise<InferenceSession> {
  const folder = join(options.cacheDir, "graphs", id);
  const create = () => InferenceSession.create(join(folder, GRAPH_FILE), { intraOpNumThreads: options.threads ?? availableParallelism() });
  try {
    return await create();
  } catch {
    // Not built yet, or damaged: built anew.
  }
  try {
    await build(folder, file, config, table, options.activations);
  } catch (cause) {
    throw storageError(cause, `the model's graph into ${options.cacheDir}`, "set KVSPLICE_CACHE_DIR to a folder with enough room");
  }
  return create();
}

/** Builds beside the final place and renames, so that a graph is there whole or not at all. */
async function build(folder: string, file: GgufFile, config: ModelConfig, table: RotaryTable, activations: Activations): Promise<void> {
  await mkdir(dirname(folder), { recursive: true });
  const draft = await mkdtemp(`${folder}.`);
  try {
    const weights = await open(join(draft, WEIGHTS_FILE), "w");
    try {
      const graph = new GraphWriter(WEIGHTS_FILE, (bytes, offset) => {
        for (let done = 0; done < bytes.length; ) done += writeSync(weights.fd, bytes, done, bytes.length - done, offset + done);
      });
      writeDecoder(graph, file, config, table, activations);
      await writeFile(join(draft, GRAPH_FILE), graph.encode());
      await weights.sync();
    } finally {
      await weights.close();
    }
    await rm(folder, { recursive: true, force: true });
    await rename(draft, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error; // another process built it meanwhile
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
