import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { env, InferenceSession, usableCores } from "../../../runtime/index.js";
import { makeFolder, storageError } from "../../../storage/index.js";
import { type LoadProgress, timed } from "../../load-progress.js";
import type { ModelFile } from "../../model/files/model-file.js";
import { modelName } from "../../model/files/name.js";
import type { ModelSpec } from "../../model/spec.js";
import type { Activations } from "./activations.js";
import { addGraph, buildGraphs, whileBuilding } from "./build.js";
import { type Magnitudes, type Purpose, writeDecoder } from "./decoder.js";
import { areGraphsSound, ENCODER_FILES, GRAPH_FILES, type GraphFile, graphsFolder, MAGNITUDES_FILE } from "./graph-folder.js";
import { BATCH_SLOTS } from "./limits.js";
import { GraphWriter } from "./onnx.js";

/** What each of a model's graphs is for. */
const PURPOSES: Readonly<Record<(typeof GRAPH_FILES)[number], Purpose>> = {
  "decoder.onnx": { kind: "answer", slots: 1 },
  "batch.onnx": { kind: "answer", slots: BATCH_SLOTS },
  "look.onnx": { kind: "look" },
  "adapted.onnx": { kind: "adapted" },
};

/** What each of the graphs that encode in 8 bits is for. */
function encoderPurposes(magnitudes: Magnitudes): Readonly<Record<(typeof ENCODER_FILES)[number], Purpose>> {
  return {
    "encoder.onnx": { kind: "encode", adapted: false, magnitudes },
    "adapted-encoder.onnx": { kind: "encode", adapted: true, magnitudes },
  };
}

/** The folder of a model's built graphs, which are specific to this processor and this version of ONNX Runtime. */
export function graphFolder(id: string, cacheDir: string): string {
  return join(graphsFolder(cacheDir), `${id}-onnxruntime-${env.versions.node}-${processor()}`);
}

/** A short name for this processor: kernels are chosen by its model and its features. */
function processor(): string {
  const what = [process.arch, cpus()[0]?.model ?? ""];
  if (process.platform === "linux") what.push(/^(?:flags|Features)\s*:.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0] ?? "");
  return createHash("sha256").update(what.join("\n")).digest("hex").slice(0, 8);
}

export type SessionOptions = {
  readonly cacheDir: string;
  readonly activations: Activations;
  readonly threads?: number | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
};

/** A model's inference sessions. Their weights are mapped from one file. */
export type Sessions = {
  /** Passes over one prompt. */
  readonly single: InferenceSession;
  /** Passes over up to `BATCH_SLOTS` prompts; opened on first use. */
  batch(): Promise<InferenceSession>;
  /** What a prompt attends to; opened on first use. */
  look(): Promise<InferenceSession>;
  /** Passes over one prompt with an adapter; opened on first use. */
  adapted(): Promise<InferenceSession>;
  /** Builds and opens the graph that measures the inputs of linear layers, for as long as it is used. */
  measuring<T>(use: (session: InferenceSession) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};

/** Opens the sessions over a model's graphs. */
export async function openSessions(id: string, file: ModelFile, spec: ModelSpec, options: SessionOptions): Promise<Sessions> {
  const { open, close } = await openGraphs(id, file, spec, options, GRAPH_FILES, async () => PURPOSES);
  const folder = graphFolder(id, options.cacheDir);
  const graphFor = (purpose: Purpose) => graphOf(file, spec, options.activations, purpose);
  return {
    single: await open("decoder.onnx"),
    batch: () => open("batch.onnx"),
    look: () => open("look.onnx"),
    adapted: () => open("adapted.onnx"),
    measuring: (use) =>
      // The lock keeps other processes from rebuilding the folder in the meantime.
      whileBuilding(folder, async () => {
        const path = join(folder, MAGNITUDES_FILE);
        try {
          const first = { file: GRAPH_FILES[0], graph: graphFor(PURPOSES[GRAPH_FILES[0]]) };
          await addGraph(folder, first, MAGNITUDES_FILE, graphFor({ kind: "magnitudes" }));
          const session = await openSession(path, options);
          try {
            return await use(session);
          } finally {
            await session.release();
          }
        } finally {
          await rm(path, { force: true });
        }
      }),
    close,
  };
}

/** Sessions that encode blocks in 8 bits, each opened on first use. */
export type EncoderSessions = {
  plain(): Promise<InferenceSession>;
  /** With an adapter. */
  adapted(): Promise<InferenceSession>;
  close(): Promise<void>;
};

/** @param measure measures the inputs of linear layers; called if the graphs have not been built yet */
export async function openEncoder(
  id: string,
  file: ModelFile,
  spec: ModelSpec,
  options: SessionOptions,
  measure: () => Promise<Magnitudes>,
): Promise<EncoderSessions> {
  const { open, close } = await openGraphs(id, file, spec, options, ENCODER_FILES, async () => encoderPurposes(await measure()));
  return { plain: () => open("encoder.onnx"), adapted: () => open("adapted-encoder.onnx"), close };
}

type OpenGraphs<File> = {
  /** A graph's session, which is opened once. */
  open(graph: File): Promise<InferenceSession>;
  close(): Promise<void>;
};

/**
 * Graphs that are built once for each id and kept in `cacheDir`, by one process at a time. Damaged or outdated graphs
 * are built again.
 * @param choose what each of the graphs is for
 */
async function openGraphs<File extends GraphFile>(
  id: string,
  file: ModelFile,
  spec: ModelSpec,
  options: SessionOptions,
  files: readonly File[],
  choose: () => Promise<Readonly<Record<File, Purpose>>>,
): Promise<OpenGraphs<File>> {
  const { cacheDir, activations, onProgress } = options;
  const folder = graphFolder(id, cacheDir);
  if (!(await areGraphsSound(folder, "sampled", files))) {
    const build = async () => {
      if (await areGraphsSound(folder, "sampled", files)) return; // another process built them in the meantime
      const graphs = new Map<GraphFile, GraphWriter>();
      for (const [name, purpose] of Object.entries(await choose()) as [File, Purpose][]) {
        graphs.set(name, graphOf(file, spec, activations, purpose));
      }
      await buildGraphs(folder, { name: modelName(file.path, file.metadata), graphs }, timed("build", onProgress));
    };
    try {
      makeFolder(graphsFolder(cacheDir), "Set KVSPLICE_CACHE_DIR to another folder.");
      await whileBuilding(folder, build, () => onProgress?.({ step: "wait", done: 0, total: 0, remaining_ms: undefined }));
    } catch (cause) {
      throw storageError(cause, `the model's graph into ${cacheDir}`, "set KVSPLICE_CACHE_DIR to a folder with enough room");
    }
  }
  const opened = new Map<File, Promise<InferenceSession>>();
  return {
    open(graph) {
      const session = opened.get(graph) ?? openSession(join(folder, graph), options);
      opened.set(graph, session);
      return session;
    },
    async close() {
      for (const session of opened.values()) await (await session.catch(() => undefined))?.release();
    },
  };
}

function graphOf(file: ModelFile, spec: ModelSpec, activations: Activations, purpose: Purpose): GraphWriter {
  const graph = new GraphWriter();
  writeDecoder(graph, file, spec, activations, purpose);
  return graph;
}

function openSession(path: string, { threads }: SessionOptions): Promise<InferenceSession> {
  return InferenceSession.create(path, {
    intraOpNumThreads: threads ?? usableCores(),
    // They were optimised when they were built, and packed weights belong to the nodes of that time.
    graphOptimizationLevel: "disabled",
    // Every step has a different length: no allocation pattern repeats.
    enableMemPattern: false,
    // A layer reuses the memory of the previous one: memory returned to the system would come back page by page.
    enableCpuMemArena: true,
    // Between passes the cores are for others: another session's pass, other processes.
    extra: { session: { force_spinning_stop: "1" } },
  });
}
