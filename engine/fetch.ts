import { setTimeout as sleep } from "node:timers/promises";
import { type BlockSource, isBlockPiece, KvspliceError, type Piece, type Plan } from "../plan/index.js";
import { blockFits, type Block } from "./kv/block.js";
import type { KvForm } from "./kv/form.js";
import type { CachedPiece } from "./prompt.js";
import type { BlockKey, BlockStore } from "./store/store.js";

/** Makes blocks and names them: a model. */
export type Encoder = {
  readonly name?: string;
  /** What its blocks hold of each token. */
  readonly form: KvForm;
  keyOf(source: BlockSource): BlockKey;
  encode(source: BlockSource, options?: { readonly signal?: AbortSignal }): Promise<Block>;
};

export type FetchOptions = {
  readonly store?: BlockStore | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Blocks that are put are pinned. */
  readonly pinned?: boolean;
};

export type Fetched = {
  readonly blocks: ReadonlyMap<BlockSource, Block>;
  readonly keys: ReadonlyMap<BlockSource, BlockKey>;
  /** Tokens of the blocks that the store did not have. */
  readonly encoded: number;
  readonly warnings: readonly string[];
};

export type FetchedPlan = {
  /** KV of the plan's pieces, in their order: of all blocks, and of those pieces with a name that the store has. */
  readonly cached: ReadonlyMap<Piece, CachedPiece>;
  readonly encoded: number;
  readonly warnings: readonly string[];
};

/** The KV of a plan's blocks, and of those of its kept pieces that the store has. */
export async function fetchPlan(encoder: Encoder, plan: Plan, options: FetchOptions): Promise<FetchedPlan> {
  const { store } = options;
  const blockPieces = plan.pieces.filter(isBlockPiece);
  const keptPieces = plan.pieces.flatMap((piece) => (isBlockPiece(piece) || piece.keep === undefined ? [] : [{ piece, key: piece.keep }]));
  const warnings: string[] = [];
  const [fetched, kept] = await Promise.all([
    fetchBlocks(encoder, blockPieces.map(({ block }) => block), options),
    Promise.all(keptPieces.map(async ({ piece, key }) => ({ piece, key, block: store && (await getFitting(store, key, encoder.form, piece.tokens.length, warnings)) }))),
  ]);
  const found = new Map<Piece, CachedPiece>(blockPieces.map((piece) => [piece, { key: fetched.keys.get(piece.block)!, block: fetched.blocks.get(piece.block)! }]));
  for (const { piece, key, block } of kept) if (block) found.set(piece, { key, block });
  const cached = new Map(plan.pieces.flatMap((piece) => (found.has(piece) ? [[piece, found.get(piece)!] as const] : [])));
  return { cached, encoded: fetched.encoded, warnings: [...warnings, ...fetched.warnings] };
}

/**
 * The stored block of a key. One that is there and does not fit the model (whoever wrote it: `blockFits`) is treated as
 * absent: it is removed, so that it is put anew, and told.
 */
export async function getFitting(store: BlockStore, key: BlockKey, form: KvForm, tokens: number, warnings: string[]): Promise<Block | undefined> {
  const block = await store.get(key);
  if (!block || blockFits(form, tokens, block)) return block;
  warnings.push(`The stored block ${key.slice(0, 12)} has another shape than the model's and is not used. If others can write to the store, docs/security.md says how to keep them out.`);
  await store.delete([key]).catch(() => undefined); // a store that only reads has it still, and it is not used then either
  return undefined;
}

/** The KV of a plan's blocks: what the store has is read side by side, what it has not is encoded and put. */
export async function fetchBlocks(encoder: Encoder, sources: readonly BlockSource[], options: FetchOptions): Promise<Fetched> {
  const keys = new Map(sources.map((source) => [source, encoder.keyOf(source)]));
  const wanted = new Map([...keys].map(([source, key]) => [key, source]));
  const warnings: string[] = [];
  let encoded = 0;
  const fetched = [...wanted].map(async ([key, source]) => {
    const { found, made } = await findOrEncode(encoder, key, source, options, (store) => getFitting(store, key, encoder.form, source.tokens.length, warnings));
    if (!made) return [key, found] as const;
    encoded += source.tokens.length;
    // The answer does not depend on it: the block is encoded again another time.
    if (made.failure) warnings.push(`A block was encoded and could not be stored. ${messageOf(made.failure)}`);
    return [key, made.block] as const;
  });
  const byKey = new Map(await all(fetched));
  return { blocks: new Map([...keys].map(([source, key]) => [source, byKey.get(key)!])), keys, encoded, warnings };
}

/**
 * Sees to it that the store holds a block: whether it had to be encoded here.
 * @throws what the store throws where the block cannot be put
 */
export async function storeBlock(encoder: Encoder, source: BlockSource, options: FetchOptions & { readonly store: BlockStore }): Promise<boolean> {
  const key = encoder.keyOf(source);
  const { made } = await findOrEncode(encoder, key, source, options, async (store) => (await store.has(key)) || undefined);
  if (made?.failure) throw made.failure;
  return made !== undefined;
}

type Made = { readonly block: Block; readonly failure?: unknown };
type FoundOrMade<Found> = { readonly found: Found; readonly made?: undefined } | { readonly found?: undefined; readonly made: Made };

const FIRST_WAIT_MS = 5;
const LONGEST_WAIT_MS = 100;

/**
 * What `look` finds in the store, or the block encoded now and put. Of several that miss one block at once, in this
 * process or others, one encodes it; the others wait for it, and one of them takes over where it fails or dies.
 */
async function findOrEncode<Found>(
  encoder: Encoder,
  key: BlockKey,
  source: BlockSource,
  { store, signal, pinned }: FetchOptions,
  look: (store: BlockStore) => Promise<Found | undefined>,
): Promise<FoundOrMade<Found>> {
  for (let wait_ms = FIRST_WAIT_MS; ; wait_ms = Math.min(2 * wait_ms, LONGEST_WAIT_MS)) {
    const found = store && (await look(store));
    if (found !== undefined) return { found };
    const lease = store?.lease && (await store.lease(key));
    if (store?.lease && !lease) {
      await sleep(wait_ms, undefined, { signal }).catch((cause: unknown) => {
        throw new KvspliceError("cancelled", "Cancelled.", { cause });
      });
      continue;
    }
    try {
      const late = lease && store && (await store.has(key)) ? await look(store) : undefined; // put just before the lease
      if (late !== undefined) return { found: late };
      const start = performance.now();
      const block = await encoder.encode(source, signal ? { signal } : {});
      const cost_ms = performance.now() - start;
      const failure = await store?.put(key, block, { cost_ms, ...(encoder.name !== undefined && { model: encoder.name }), ...(pinned && { pinned }) }).then(
        () => undefined,
        (error: unknown) => error ?? new Error("unknown"),
      );
      return { made: { block, ...(failure !== undefined && { failure }) } };
    } finally {
      await lease?.release();
    }
  }
}

/** As `Promise.all`, but a failure is thrown when none is still at work. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
