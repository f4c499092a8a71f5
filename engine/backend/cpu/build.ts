import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, truncate, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { InferenceSession } from "../../../runtime/index.js";
import { isFileLocked, withFileLock } from "../../../storage/index.js";
import { type GraphFile, WEIGHTS_FILE, writeManifest } from "./graph-folder.js";
import { bytesOfWeight, EncodedModel, encodeNode, type GraphWriter, type WeightGroup, type WeightPlace } from "./onnx.js";
import { WeightsPacker } from "./prepack.js";
import { WeightsFile } from "./weights-file.js";

/** Bytes of weights written so far, and in total. */
export type BuildProgress = (done: number, total: number) => void;

/** What to build: graphs over the same weights in the same order, the first with all of them, and the model's name in listings. */
export type BuildPlan = { readonly name: string; readonly graphs: ReadonlyMap<GraphFile, GraphWriter> };

/**
 * Builds a model's graphs and their shared weights file in a temporary folder, and renames the folder: it appears
 * complete or not at all. Weights are made, packed and written one layer after the other.
 */
export async function buildGraphs(folder: string, { name, graphs }: BuildPlan, onProgress: BuildProgress = () => undefined): Promise<void> {
  const draft = await mkdtemp(`${folder}${DRAFT}`);
  try {
    const models = new Map<GraphFile, EncodedModel>();
    for (const [file, graph] of graphs) models.set(file, await optimized(draft, graph));
    const [whole] = models.values();
    const { groups } = [...graphs.values()][0]!;
    const weights = new WeightsFile(join(draft, WEIGHTS_FILE));
    const packer = new WeightsPacker(draft, WEIGHTS_FILE, weights);
    const places = new Map<string, WeightPlace>();
    try {
      const total = groups.flatMap((group) => group.weights).reduce((sum, info) => sum + bytesOfWeight(info), 0);
      let done = 0;
      for (const group of groups) {
        onProgress(done, total);
        await writeGroup(group, whole!, packer, places);
        done += group.weights.reduce((sum, info) => sum + bytesOfWeight(info), 0);
      }
      weights.sync();
      onProgress(total, total);
    } finally {
      weights.close();
    }
    const built = join(draft, "built");
    await mkdir(built);
    await rename(join(draft, WEIGHTS_FILE), join(built, WEIGHTS_FILE));
    for (const [file, model] of models)
      await writeFile(join(built, file), model.place(WEIGHTS_FILE, inOrderOf(graphs.get(file)!.groups, groups, places)));
    const proofs = packer.proofs.map(({ node, columns, weights, results }) => ({
      model: encodeNode(node, columns, weights),
      columns,
      results,
    }));
    await writeManifest(built, [...graphs.keys()], name, proofs);
    await rm(folder, { recursive: true, force: true });
    await rename(built, folder);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/**
 * Writes one more graph over the weights of a built folder.
 * @param first the folder's first graph, as it was written
 * @param to the new file, in this folder
 */
export async function addGraph(
  folder: string,
  first: { readonly file: GraphFile; readonly graph: GraphWriter },
  to: string,
  graph: GraphWriter,
): Promise<void> {
  const draft = await mkdtemp(`${folder}${DRAFT}`);
  try {
    const places = new EncodedModel(readFileSync(join(folder, first.file))).placed();
    const model = await optimized(draft, graph);
    await writeFile(join(folder, to), model.place(WEIGHTS_FILE, inOrderOf(graph.groups, first.graph.groups, places)));
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** Makes the weights of a group, and writes them for each node that reads them. */
async function writeGroup(
  { weights, make }: WeightGroup,
  model: EncodedModel,
  packer: WeightsPacker,
  places: Map<string, WeightPlace>,
): Promise<void> {
  const values = make();
  const made = weights.map((info, i) => ({ info, values: values[i]! }));
  const left = new Set(made);
  for (const weight of made) {
    if (!left.has(weight)) continue;
    const [reader, ...others] = model.readersOf(weight.info.name);
    const own = made.filter(({ info }) => reader?.node.input?.includes(info.name));
    for (const each of own) left.delete(each);
    const written = reader && others.length === 0 ? await packer.write(reader, own) : packer.writePlain(own);
    for (const { info, place } of written) places.set(info.name, place);
  }
}

/** The places of one graph's weights, given those of another graph with the same weights in the same order. */
function inOrderOf(
  groups: readonly WeightGroup[],
  written: readonly WeightGroup[],
  places: ReadonlyMap<string, WeightPlace>,
): Map<string, WeightPlace> {
  const [own, others] = [groups.flatMap(({ weights }) => weights), written.flatMap(({ weights }) => weights)];
  return new Map(
    own.map(({ name, dims }, i) => {
      const other = others[i];
      if (other?.dims.join() !== dims.join())
        throw new Error(`Weight ${i} is [${dims.join()}] in one graph and [${other?.dims.join()}] in another.`);
      return [name, places.get(other.name)!];
    }),
  );
}

/** Stands in for all weights while a graph is optimised: it has their length, but takes no space. */
const BLANK_FILE = "blank.bin";

/** A graph as ONNX Runtime would run it on any processor. Its weights are not read, and keep their names. */
async function optimized(folder: string, graph: GraphWriter): Promise<EncodedModel> {
  const infos = graph.groups.flatMap(({ weights }) => weights);
  await writeFile(join(folder, BLANK_FILE), "");
  await truncate(join(folder, BLANK_FILE), Math.max(0, ...infos.map(bytesOfWeight)));
  const encoded = graph.encode(BLANK_FILE, (info) => ({ offset: 0, length: bytesOfWeight(info) }));
  await writeFile(join(folder, "blank.onnx"), encoded);
  const optimizedModelFilePath = join(folder, "optimized.onnx");
  const session = await InferenceSession.create(join(folder, "blank.onnx"), {
    graphOptimizationLevel: "extended",
    optimizedModelFilePath,
    extra: { session: { disable_prepacking: "1" } },
  });
  await session.release();
  const model = new EncodedModel(readFileSync(optimizedModelFilePath));
  const placed = model.placed();
  // A weight that took part in constant folding would now be zeros.
  return infos.every(({ name }) => placed.has(name)) ? model : new EncodedModel(encoded);
}

const DRAFT = ".draft-";
const LOCK = ".lock";

/**
 * Runs `build` while no other process builds into the folder. Leftovers of killed processes are removed first,
 * whatever folder they were meant for.
 */
export async function whileBuilding<T>(folder: string, build: () => Promise<T>, onWait: () => void = () => undefined): Promise<T> {
  const run = async () => {
    await sweepDrafts(dirname(folder), basename(folder));
    return build();
  };
  return withFileLock(`${folder}${LOCK}`, run, { onWait });
}

/** A draft is made under its folder's lock: without a lock, or if the lock is this process's own, nobody is working on it. */
async function sweepDrafts(graphs: string, own: string): Promise<void> {
  for (const name of await readdir(graphs)) {
    const at = name.indexOf(DRAFT);
    if (at < 0) continue;
    const folder = name.slice(0, at);
    if (folder === own || !(await isFileLocked(join(graphs, `${folder}${LOCK}`))))
      await rm(join(graphs, name), { recursive: true, force: true });
  }
}
