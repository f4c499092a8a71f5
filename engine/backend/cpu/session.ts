import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { env, InferenceSession } from "../../../runtime/index.js";
import { makeFolder, storageError } from "../../../storage/index.js";
import { timed, type LoadProgress } from "../../load-progress.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { modelName } from "../../model/files/name.js";
import type { ModelSpec } from "../../model/spec.js";
import { buildGraphs, whileBuilding } from "./build.js";
import { GRAPH_VERSION, writeDecoder, type Purpose } from "./decoder.js";
import { areGraphsSound, GRAPH_FILES, graphsFolder, type GraphFile } from "./graph-folder.js";
import type { Activations } from "./linear.js";
import { GraphWriter } from "./onnx.js";

/** Prompts whose tokens one pass of the batch session may hold. */
export const BATCH_SLOTS = 8;

/** What each graph of a folder is for. */
const PURPOSES: Readonly<Record<GraphFile, Purpose>> = {
  "decoder.onnx": { kind: "answer", slots: 1 },
  "batch.onnx": { kind: "answer", slots: BATCH_SLOTS },
  "look.onnx": { kind: "look" },
  "adapted.onnx": { kind: "adapted" },
};

/** Names what a graph computes: the model's content, what was chosen on opening it, the graph's version, and how activations are handled. */
export function graphId(contentHash: string, { variant }: ModelSpec, activations: Activations): string {
  return createHash("sha256").update(`${contentHash} ${variant} ${GRAPH_VERSION} ${activations}`).digest("hex");
}

/** Names the arithmetic of the graphs: a part of the keys of blocks. */
export function arithmeticOf(activations: Activations): string {
  return `cpu ${GRAPH_VERSION} ${activations}`;
}

/** The folder of a model's built graphs: they are laid out for this processor, and by this version of ONNX Runtime. */
export function graphFolder(id: string, cacheDir: string): string {
  return join(graphsFolder(cacheDir), `${id}-onnxruntime-${env.versions.node}-${processor()}`);
}

/** What this processor is called, in few letters: kernels are chosen by its model and by what it can do. */
function processor(): string {
  const what = [process.arch, cpus()[0]?.model ?? ""];
  if (process.platform === "linux") what.push(/^(?:flags|Features)\s*:.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0] ?? "");
  return createHash("sha256").update(what.join("\n")).digest("hex").slice(0, 8);
}

export type SessionOptions = {
  readonly cacheDir: string;
  readonly activations: Activations;
  readonly threads?: number;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
};

/** A model's inference sessions. Their weights are mapped from one file. */
export type Sessions = {
  /** Passes over one prompt. */
  readonly single: InferenceSession;
  /** Passes over up to `BATCH_SLOTS` prompts; opened when first asked for. */
  batch(): Promise<InferenceSession>;
  /** What a prompt looks at; opened when first asked for. */
  look(): Promise<InferenceSession>;
  /** Passes over one prompt with an adapter; opened when first asked for. */
  adapted(): Promise<InferenceSession>;
  close(): Promise<void>;
};

/**
 * Opens the sessions over graphs that are built once for each content and kept in `cacheDir`, by one process at a time.
 * Graphs that are not as they were built are built again.
 */
export async function openSessions(id: string, file: ModelFile, spec: ModelSpec, options: SessionOptions): Promise<Sessions> {
  const { cacheDir, activations, onProgress } = options;
  const folder = graphFolder(id, cacheDir);
  if (!(await areGraphsSound(folder, "sampled"))) {
    const build = async () => {
      if (await areGraphsSound(folder, "sampled")) return; // another process built them meanwhile
      const graphs = mapGraphs((purpose) => {
        const graph = new GraphWriter();
        writeDecoder(graph, file, spec, activations, purpose);
        return graph;
      });
      await buildGraphs(folder, { name: modelName(file.path, file.metadata), graphs }, timed("build", onProgress));
    };
    try {
      makeFolder(graphsFolder(cacheDir), "Set KVSPLICE_CACHE_DIR to another folder.");
      await whileBuilding(folder, build, () => onProgress?.({ step: "wait", done: 0, total: 0, remaining_ms: undefined }));
    } catch (cause) {
      throw storageError(cause, `the model's graph into ${cacheDir}`, "set KVSPLICE_CACHE_DIR to a folder with enough room");
    }
  }
  const create = (graph: GraphFile) =>
    InferenceSession.create(join(folder, graph), {
      intraOpNumThreads: options.threads ?? availableParallelism(),
      // They were optimised when they were built, and packed weights belong to the nodes that were there then.
      graphOptimizationLevel: "disabled",
      // Every step has another length: no pattern of allocations comes twice.
      enableMemPattern: false,
      // A layer computes in the memory of the one before: given back to the system, it would come page by page again.
      enableCpuMemArena: true,
      // Between passes the cores are for others: another session's pass, other processes.
      extra: { session: { force_spinning_stop: "1" } },
    });
  const single = await create("decoder.onnx");
  const opened = new Map<GraphFile, Promise<InferenceSession>>();
  const open = (graph: GraphFile) => {
    const session = opened.get(graph) ?? create(graph);
    opened.set(graph, session);
    return session;
  };
  return {
    single,
    batch: () => open("batch.onnx"),
    look: () => open("look.onnx"),
    adapted: () => open("adapted.onnx"),
    async close() {
      await single.release();
      for (const session of opened.values()) await (await session.catch(() => undefined))?.release();
    },
  };
}

function mapGraphs<T>(each: (purpose: Purpose) => T): Readonly<Record<GraphFile, T>> {
  return Object.fromEntries(GRAPH_FILES.map((file) => [file, each(PURPOSES[file])])) as Record<GraphFile, T>;
}
