import {
  type BlockStore,
  isBlockPiece,
  loadModel,
  type Model,
  openBlockStore,
  openDiskStore,
  type Plan,
  type Precision,
} from "../../engine/index.js";
import { peakMemory } from "./machine.js";
import { servePeer } from "./peer.js";

type Loaded = { readonly model: Model; readonly store: BlockStore };

export type Answered = {
  readonly first_token_ms: number;
  readonly fetch_ms: number;
  readonly splice_ms: number;
  readonly per_token_ms: number;
  readonly cached_tokens: number;
  readonly computed_tokens: number;
  readonly ids: readonly number[];
};

const loaded = new Map<Precision, Promise<Loaded>>();

function at(precision: Precision, threads: number): Promise<Loaded> {
  let found = loaded.get(precision);
  if (!found)
    loaded.set(
      precision,
      (found = loadModel({ precision, threads }).then((model) => ({ model, store: openBlockStore({ memory: { budget: 2 ** 33 } }) }))),
    );
  return found;
}

function blocksOf(plan: Plan, model: Model) {
  return new Map(plan.pieces.filter(isBlockPiece).map(({ block }) => [model.keyOf(block), block]));
}

type At = { readonly precision: Precision; readonly threads: number; readonly plan: Plan };

const operations = {
  /** Encodes the plan's blocks, as many at once as the engine allows, and keeps them in memory. */
  async encode({ precision, threads, plan }: At): Promise<{ tokens: number; ms: number }> {
    const { model, store } = await at(precision, threads);
    const blocks = blocksOf(plan, model);
    const start = performance.now();
    await Promise.all(Array.from(blocks, async ([key, source]) => store.put(key, await model.encode(source))));
    return { tokens: Array.from(blocks.values(), ({ tokens }) => tokens.length).reduce((a, b) => a + b, 0), ms: performance.now() - start };
  },

  async answer({ precision, threads, plan, newTokens }: At & { newTokens: number }): Promise<Answered> {
    const { model, store } = await at(precision, threads);
    const ids: number[] = [];
    const generation = model.generate(plan, { store, maxNewTokens: newTokens });
    for await (const { id } of generation) if (id >= 0) ids.push(id);
    const { first_token_ms, fetch_ms, splice_ms, per_token_ms, cached_tokens, computed_tokens } = await generation.stats;
    return { first_token_ms, fetch_ms, splice_ms, per_token_ms, cached_tokens, computed_tokens, ids };
  },

  /** Stores the plan's blocks in a folder, for processes that start with them. */
  async keepOnDisk({ precision, threads, plan, dir }: At & { dir: string }): Promise<void> {
    const { model, store } = await at(precision, threads);
    const disk = openDiskStore(dir);
    for (const key of blocksOf(plan, model).keys()) await disk.put(key, (await store.get(key))!);
    await disk.close();
  },

  /** A plain copy of the same number of bytes, in memory that is already allocated. */
  copy({ bytes }: { bytes: number }): number {
    const [from, to] = [copies(bytes, 0), copies(bytes, 1)];
    const start = performance.now();
    to.set(from);
    return performance.now() - start;
  },

  peakMemory: (_: object): number => peakMemory(),
};

const buffers: Float32Array[] = [];
function copies(bytes: number, index: number): Float32Array {
  if (buffers[index]?.byteLength !== bytes) buffers[index] = new Float32Array(bytes / 4).fill(1);
  return buffers[index]!;
}

export type KvspliceOperations = typeof operations;
servePeer(operations);
