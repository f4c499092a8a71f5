import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, rename, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import envPaths from "env-paths";
import { env, InferenceSession } from "../../../runtime/index.js";
import { storageError, writeFully } from "../../../storage/index.js";
import type { ModelFile } from "../../model/files/model-file.js";
import type { ModelSpec } from "../../model/spec.js";
import { GRAPH_VERSION, writeDecoder, type Purpose } from "./decoder.js";
import type { Activations } from "./linear.js";
import { GraphWriter } from "./onnx.js";
import { prepackWeights } from "./prepack.js";

const WEIGHTS_FILE = "weights.bin";

/** Prompts whose tokens one pass of the batch session may hold. */
export const BATCH_SLOTS = 8;

/** Graphs over the same weights. The first has all of them. */
const GRAPHS = [
  { file: "decoder.onnx", purpose: { kind: "answer", slots: 1 } },
  { file: "batch.onnx", purpose: { kind: "answer", slots: BATCH_SLOTS } },
  { file: "look.onnx", purpose: { kind: "look" } },
  { file: "adapted.onnx", purpose: { kind: "adapted" } },
] as const satisfies readonly { readonly file: string; readonly purpose: Purpose }[];

/** Names what a graph computes: the model's content, what was chosen on opening it, the graph's version, and how activations are handled. */
export function graphId(contentHash: string, { variant }: ModelSpec, activations: Activations): string {
  return createHash("sha256").update(`${contentHash} ${variant} ${GRAPH_VERSION} ${activations}`).digest("hex");
}

/** Names the arithmetic of the graphs: a part of the keys of blocks. */
export function arithmeticOf(activations: Activations): string {
  return `cpu ${GRAPH_VERSION} ${activations}`;
}

/** Where built graphs are kept unless the caller says otherwise: `KVSPLICE_CACHE_DIR`, or the user's cache folder. */
export function defaultCacheDir(): string {
  return process.env["KVSPLICE_CACHE_DIR"] ?? envPaths("kvsplice", { suffix: "" }).cache;
}

/** The folder of a model's built graphs. */
export function graphFolder(id: string, cacheDir: string): string {
  return join(cacheDir, "graphs", `${id}-onnxruntime-${env.versions.node}`);
}

export type SessionOptions = { readonly cacheDir: string; readonly activations: Activations; readonly threads?: number };

/** A model's inference sessions. */
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

/** Opens the sessions over graphs that are built once for each content and kept in `cacheDir`. */
export async function openSessions(id: string, file: ModelFile, spec: ModelSpec, options: SessionOptions): Promise<Sessions> {
  const folder = graphFolder(id, options.cacheDir);
  const create = (graph: string) =>
    InferenceSession.create(join(folder, graph), {
      intraOpNumThreads: options.threads ?? availableParallelism(),
      // Every step has another length: no pattern of allocations comes twice.
      enableMemPattern: false,
      // A layer computes in the memory of the one before: given back to the system, it would come page by page again.
      enableCpuMemArena: true,
      // Between passes the cores are for others: another session's pass, other processes.
      extra: { session: { force_spinning_stop: "1" } },
    });
  const build = async () => {
    try {
      await buildGraphs(folder, file, spec, options.activations);
    } catch (cause) {
      throw storageError(cause, `the model's graph into ${options.cacheDir}`, "set KVSPLICE_CACHE_DIR to a folder with enough room");
    }
    return create(GRAPHS[0].file);
  };
  const single = await create(GRAPHS[0].file).catch(build); // not built yet, or damaged
  const opened = new Map<string, Promise<InferenceSession>>();
  const open = (graph: string) => {
    const session = opened.get(graph) ?? create(graph);
    opened.set(graph, session);
    return session;
  };
  return {
    single,
    batch: () => open(GRAPHS[1].file),
    look: () => open(GRAPHS[2].file),
    adapted: () => open(GRAPHS[3].file),
    async close() {
      await single.release();
      for (const session of opened.values()) await (await session.catch(() => undefined))?.release();
    },
  };
}

/** Builds beside the final place and renames, so that the graphs are there whole or not at all. */
async function buildGraphs(folder: string, file: ModelFile, spec: ModelSpec, activations: Activations): Promise<void> {
  await mkdir(dirname(folder), { recursive: true });
  const draft = await mkdtemp(`${folder}.`);
  const [plain, prepacked] = [join(draft, "plain"), join(draft, "prepacked")];
  try {
    await mkdir(plain);
    await writeGraphs(plain, file, spec, activations);
    await mkdir(prepacked);
    const built = await prepackWeights(plain, prepacked, GRAPHS.map((graph) => graph.file), WEIGHTS_FILE).then(
      () => prepacked,
      () => plain, // too little room for both: it works as well, and takes more memory
    );
    await rm(folder, { recursive: true, force: true });
    await rename(built, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error; // another process built it meanwhile
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function writeGraphs(folder: string, file: ModelFile, spec: ModelSpec, activations: Activations): Promise<void> {
  const weights = await open(join(folder, WEIGHTS_FILE), "w");
  try {
    const writeWeights = (bytes: Uint8Array, offset: number) => writeFully(weights.fd, bytes, offset);
    for (const [i, { file: name, purpose }] of GRAPHS.entries()) {
      // The others have the first one's weights at the same offsets.
      const graph = new GraphWriter(WEIGHTS_FILE, i === 0 ? writeWeights : () => undefined);
      writeDecoder(graph, file, spec, activations, purpose);
      await writeFile(join(folder, name), graph.encode());
    }
    await weights.sync();
  } finally {
    await weights.close();
  }
}
