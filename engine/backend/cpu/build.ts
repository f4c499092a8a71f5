import { mkdir, mkdtemp, readdir, rename, rm, truncate, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InferenceSession } from "../../../runtime/index.js";
import { isFileLocked, withFileLock } from "../../../storage/index.js";
import { GRAPH_FILES, WEIGHTS_FILE, writeManifest, type GraphFile } from "./graph-folder.js";
import { bytesOfWeight, EncodedModel, encodeNode, type GraphWriter, type WeightGroup, type WeightPlace } from "./onnx.js";
import { WeightsPacker } from "./prepack.js";
import { WeightsFile } from "./weights-file.js";

/** Bytes of weights that are written, of all. */
export type BuildProgress = (done: number, total: number) => void;

/** What is to be built: the graphs over the same weights in the same order, and what to call the model in listings. */
export type BuildPlan = { readonly name: string; readonly graphs: Readonly<Record<GraphFile, GraphWriter>> };

/**
 * Builds a model's graphs and their one file of weights into a folder, beside its place, and renames it: it is there
 * whole or not at all. Weights are made, packed and written one layer after the other.
 */
export async function buildGraphs(folder: string, { name, graphs }: BuildPlan, onProgress: BuildProgress = () => undefined): Promise<void> {
  const draft = await mkdtemp(`${folder}${DRAFT}`);
  try {
    const models = new Map<GraphFile, EncodedModel>();
    for (const file of GRAPH_FILES) models.set(file, await optimized(draft, graphs[file]));
    const { groups } = graphs[GRAPH_FILES[0]];
    const weights = new WeightsFile(join(draft, WEIGHTS_FILE));
    const packer = new WeightsPacker(draft, WEIGHTS_FILE, weights);
    const places = new Map<string, WeightPlace>();
    try {
      const total = groups.flatMap((group) => group.weights).reduce((sum, info) => sum + bytesOfWeight(info), 0);
      let done = 0;
      for (const group of groups) {
        onProgress(done, total);
        await writeGroup(group, models.get(GRAPH_FILES[0])!, packer, places);
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
    for (const [file, model] of models) await writeFile(join(built, file), model.place(WEIGHTS_FILE, inOrderOf(graphs[file].groups, groups, places)));
    const proofs = packer.proofs.map(({ node, columns, weights, results }) => ({ model: encodeNode(node, columns, weights), columns, results }));
    await writeManifest(built, name, proofs);
    await rm(folder, { recursive: true, force: true });
    await rename(built, folder);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** Makes the weights of a group, and writes those of each node that reads them. */
async function writeGroup({ weights, make }: WeightGroup, model: EncodedModel, packer: WeightsPacker, places: Map<string, WeightPlace>): Promise<void> {
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

/** The places of one graph's weights, by those of another that has the same weights in the same order. */
function inOrderOf(groups: readonly WeightGroup[], written: readonly WeightGroup[], places: ReadonlyMap<string, WeightPlace>): Map<string, WeightPlace> {
  const [own, others] = [groups.flatMap(({ weights }) => weights), written.flatMap(({ weights }) => weights)];
  return new Map(
    own.map(({ name, dims }, i) => {
      const other = others[i];
      if (other?.dims.join() !== dims.join()) throw new Error(`Weight ${i} is [${dims.join()}] in one graph and [${other?.dims.join()}] in another.`);
      return [name, places.get(other.name)!];
    }),
  );
}

/** Stands for all weights while a graph is optimised: it has their length, and takes no room. */
const BLANK_FILE = "blank.bin";

/** A graph as ONNX Runtime would run it on any processor. Its weights are not looked at, and keep their names. */
async function optimized(folder: string, graph: GraphWriter): Promise<EncodedModel> {
  const infos = graph.groups.flatMap(({ weights }) => weights);
  await writeFile(join(folder, BLANK_FILE), "");
  await truncate(join(folder, BLANK_FILE), Math.max(0, ...infos.map(bytesOfWeight)));
  const encoded = graph.encode(BLANK_FILE, (info) => ({ offset: 0, length: bytesOfWeight(info) }));
  await writeFile(join(folder, "blank.onnx"), encoded);
  const optimizedModelFilePath = join(folder, "optimized.onnx");
  const session = await InferenceSession.create(join(folder, "blank.onnx"), { graphOptimizationLevel: "extended", optimizedModelFilePath, extra: { session: { disable_prepacking: "1" } } });
  await session.release();
  const model = new EncodedModel(readFileSync(optimizedModelFilePath));
  const placed = model.placed();
  // A weight that was computed with would be one of zeros now.
  return infos.every(({ name }) => placed.has(name)) ? model : new EncodedModel(encoded);
}

const DRAFT = ".draft-";
const LOCK = ".lock";

/**
 * Runs `build` while no other process builds into the folder. What killed processes left of theirs is taken away first,
 * whatever folder it was to become.
 */
export async function whileBuilding(folder: string, build: () => Promise<void>, onWait: () => void): Promise<void> {
  const run = async () => {
    await sweepDrafts(dirname(folder), basename(folder));
    await build();
  };
  await withFileLock(`${folder}${LOCK}`, run, { onWait });
}

/** A draft is made under its folder's lock: without one, or where the lock is this process' own, nobody is at it. */
async function sweepDrafts(graphs: string, own: string): Promise<void> {
  for (const name of await readdir(graphs)) {
    const at = name.indexOf(DRAFT);
    if (at < 0) continue;
    const folder = name.slice(0, at);
    if (folder === own || !(await isFileLocked(join(graphs, `${folder}${LOCK}`)))) await rm(join(graphs, name), { recursive: true, force: true });
  }
}
