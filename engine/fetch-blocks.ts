import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type BlockSource, cancelledError, isBlockPiece, KvspliceError, type Piece, type Plan } from "../plan/index.js";
import { type Block, blockFits } from "./kv/block.js";
import type { KvForm } from "./kv/form.js";
import type { CachedPiece } from "./prefill.js";
import type { Client } from "./schedule/shares.js";
import type { BlockKey, BlockStore, TierName } from "./store/store.js";

/** Under what conditions a block is encoded. */
export type EncodeOptions = {
  readonly signal?: AbortSignal;
  /** The client whose share of the machine it uses. */
  readonly client?: Client | undefined;
  /** Nobody is waiting for it: answers go first. False by default. */
  readonly background?: boolean | undefined;
};

/** Other encoders, which put blocks where the store finds them. */
export interface Elsewhere {
  /** Whether a block of this many tokens is expected from them sooner than from here. */
  isSooner(tokens: number): boolean;
  /** Has them encode a block. True when the store has it; false if it was not ready in time or the signal was aborted. */
  encode(key: BlockKey, source: BlockSource, signal?: AbortSignal): Promise<boolean>;
  /** Who is available to encode, and the jobs that wait for them: for questions' blocks and for others. */
  readonly activity: { readonly workers: number; readonly jobs: number };
  /** Reports that a block is to be encoded here; call the returned function when it is done. */
  beginHere(tokens: number): () => void;
}

/** Makes blocks and their keys: a model. */
export type Encoder = {
  readonly name?: string;
  /** What its blocks store of each token. */
  readonly form: KvForm;
  /** The key of a block's KV: a hash of everything it depends on. */
  keyOf(source: BlockSource): BlockKey;
  /**
   * Computes a block's KV.
   * @throws KvspliceError `cancelled`, `too_long`, `closed`
   */
  encode(source: BlockSource, options?: EncodeOptions): Promise<Block>;
};

/** Where blocks come from, and who encodes those that are missing. */
export type FetchOptions = {
  readonly store?: BlockStore | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Pins the blocks that are put. */
  readonly pinned?: boolean;
  /** The client whose share of the machine encodings use. */
  readonly client?: Client | undefined;
  /** Nobody is waiting for what is encoded. */
  readonly background?: boolean;
  /** Other encoders; none if omitted. */
  readonly elsewhere?: Elsewhere | undefined;
  /** Called with a block's number of tokens when the block is left to others. */
  readonly onElsewhere?: ((tokens: number) => void) | undefined;
  /** Called on each read with the tier that had the block, undefined if none had. */
  readonly onRead?: OnRead | undefined;
};

type OnRead = (tier: TierName | undefined) => void;

/** What others encoded, and the time spent waiting for it. */
export type FromElsewhere = { readonly tokens: number; readonly ms: number };

export type Fetched = {
  readonly blocks: ReadonlyMap<BlockSource, Block>;
  readonly keys: ReadonlyMap<BlockSource, BlockKey>;
  /** Tokens of the blocks that the store did not have. */
  readonly encoded: number;
  /** The keys of these blocks. */
  readonly made: ReadonlySet<BlockKey>;
  readonly elsewhere: FromElsewhere;
  readonly warnings: readonly string[];
};

export type FetchedPlan = {
  /** KV of the plan's pieces, in order: of all blocks, and of named pieces that the store has. */
  readonly cached: ReadonlyMap<Piece, CachedPiece>;
  /** The keys of the blocks that were not in the store and were encoded on the way. */
  readonly made: ReadonlySet<BlockKey>;
  readonly elsewhere: FromElsewhere;
  readonly warnings: readonly string[];
};

/** The KV of a plan's blocks, and of those kept pieces that the store has. */
export async function fetchPlan(encoder: Encoder, plan: Plan, options: FetchOptions): Promise<FetchedPlan> {
  const { store, onRead } = options;
  const blockPieces = plan.pieces.filter(isBlockPiece);
  const keptPieces = plan.pieces.flatMap((piece) =>
    isBlockPiece(piece) || piece.keep === undefined || piece.linked === "now" ? [] : [{ piece, key: piece.keep }],
  );
  const warnings: string[] = [];
  const [fetched, kept] = await Promise.all([
    fetchBlocks(
      encoder,
      blockPieces.map(({ block }) => block),
      options,
    ),
    Promise.all(
      keptPieces.map(async ({ piece, key }) => ({
        piece,
        key,
        block: store && (await getFitting(store, key, encoder.form, piece.tokens.length, warnings, onRead)),
      })),
    ),
  ]);
  const found = new Map<Piece, CachedPiece>(
    blockPieces.map((piece) => [piece, { key: fetched.keys.get(piece.block)!, block: fetched.blocks.get(piece.block)! }]),
  );
  for (const { piece, key, block } of kept) if (block) found.set(piece, { key, block });
  const cached = new Map(plan.pieces.flatMap((piece) => (found.has(piece) ? [[piece, found.get(piece)!] as const] : [])));
  return { cached, made: fetched.made, elsewhere: fetched.elsewhere, warnings: [...warnings, ...fetched.warnings] };
}

/**
 * The stored block of a key. A block that does not fit the model (`blockFits`), whoever wrote it, is treated as absent: it
 * is removed so that it can be put again, and reported.
 */
export async function getFitting(
  store: BlockStore,
  key: BlockKey,
  form: KvForm,
  tokens: number,
  warnings: string[],
  onRead?: OnRead,
): Promise<Block | undefined> {
  const block = await store.get(key, onRead);
  if (!block || blockFits(form, tokens, block)) return block;
  warnings.push(
    `The stored block ${key.slice(0, 12)} does not have the model's shape and is not used. See docs/security.md on shared stores.`,
  );
  await store.delete([key]).catch(() => undefined); // a read-only store still has it; it is not used there either
  return undefined;
}

/** The KV of a plan's blocks: stored ones are read concurrently, missing ones are encoded and put. */
export async function fetchBlocks(encoder: Encoder, sources: readonly BlockSource[], options: FetchOptions): Promise<Fetched> {
  const keys = new Map(sources.map((source) => [source, encoder.keyOf(source)]));
  const wanted = new Map([...keys].map(([source, key]) => [key, source]));
  const warnings: string[] = [];
  let encoded = 0;
  const keysMade = new Set<BlockKey>();
  const elsewhere = { tokens: 0, ms: 0 };
  const fetched = [...wanted].map(async ([key, source]) => {
    const { found, made, waited_ms } = await findOrEncode(encoder, key, source, options, (store) =>
      getFitting(store, key, encoder.form, source.tokens.length, warnings, options.onRead),
    );
    if (waited_ms !== undefined && !made) {
      encoded += source.tokens.length;
      keysMade.add(key);
      elsewhere.tokens += source.tokens.length;
      elsewhere.ms = Math.max(elsewhere.ms, waited_ms);
    }
    if (!made) return [key, found] as const;
    encoded += source.tokens.length;
    keysMade.add(key);
    // The answer does not depend on it: the block is encoded again next time.
    if (made.failure) warnings.push(`A block was encoded but could not be stored. ${messageOf(made.failure)}`);
    return [key, made.block] as const;
  });
  const byKey = new Map(await all(fetched));
  return {
    blocks: new Map([...keys].map(([source, key]) => [source, byKey.get(key)!])),
    keys,
    encoded,
    made: keysMade,
    elsewhere,
    warnings,
  };
}

/**
 * Makes sure that the store has a block, and returns whether it had to be encoded here.
 * @throws what the store throws if the block cannot be put
 */
export async function storeBlock(
  encoder: Encoder,
  source: BlockSource,
  options: FetchOptions & { readonly store: BlockStore },
): Promise<boolean> {
  const key = encoder.keyOf(source);
  const { made } = await findOrEncode(
    encoder,
    key,
    source,
    { background: true, ...options },
    async (store) => (await store.has(key)) || undefined,
  );
  if (made?.failure) throw made.failure;
  return made !== undefined;
}

type Made = { readonly block: Block; readonly failure?: unknown };
/** `waited_ms`: others made it, and this is how long it took. */
type FoundOrMade<Found> =
  | { readonly found: Found; readonly made?: undefined; readonly waited_ms?: number }
  | { readonly found?: undefined; readonly made: Made; readonly waited_ms?: undefined };

const FIRST_WAIT_MS = 5;
const LONGEST_WAIT_MS = 100;

/**
 * What `look` finds in the store, or the block, encoded now and put. If several need one missing block at once, in this
 * process or others, one encodes it and the others wait; one of them takes over if it fails or dies.
 */
async function findOrEncode<Found>(
  encoder: Encoder,
  key: BlockKey,
  source: BlockSource,
  options: FetchOptions,
  look: (store: BlockStore) => Promise<Found | undefined>,
): Promise<FoundOrMade<Found>> {
  const { store, elsewhere } = options;
  const found = store && (await look(store));
  if (found !== undefined) return { found };
  const tokens = source.tokens.length;
  if (store && elsewhere?.isSooner(tokens)) {
    options.onElsewhere?.(tokens);
    const start = performance.now();
    const block = (await elsewhere.encode(key, source, options.signal)) ? await look(store) : undefined;
    if (block !== undefined) return { found: block, waited_ms: performance.now() - start };
    if (options.signal?.aborted) throw cancelledError(options.signal);
  }
  const endHere = elsewhere?.beginHere(tokens); // now, so that the next choice counts it
  try {
    return await findOrEncodeHere(encoder, key, source, options, look);
  } finally {
    endHere?.();
  }
}

async function findOrEncodeHere<Found>(
  encoder: Encoder,
  key: BlockKey,
  source: BlockSource,
  { store, signal, pinned, client, background }: FetchOptions,
  look: (store: BlockStore) => Promise<Found | undefined>,
): Promise<FoundOrMade<Found>> {
  for (let wait_ms = FIRST_WAIT_MS; ; wait_ms = Math.min(2 * wait_ms, LONGEST_WAIT_MS)) {
    const lease = store?.lease && (await store.lease(key));
    if (store?.lease && !lease) {
      if (signal) setMaxListeners(0, signal); // any number of blocks may wait for others
      await sleep(wait_ms, undefined, { signal }).catch((cause: unknown) => {
        throw new KvspliceError("cancelled", "Cancelled.", { cause });
      });
      const found = await look(store);
      if (found !== undefined) return { found };
      continue;
    }
    try {
      const late = lease && store && (await store.has(key)) ? await look(store) : undefined; // put just before the lease
      if (late !== undefined) return { found: late };
      const start = performance.now();
      const block = await encoder.encode(source, { ...(signal && { signal }), client, background });
      const cost_ms = performance.now() - start;
      const failure = await store
        ?.put(key, block, { cost_ms, ...(encoder.name !== undefined && { model: encoder.name }), ...(pinned && { pinned }) })
        .then(
          () => undefined,
          (error: unknown) => error ?? new Error("unknown"),
        );
      return { made: { block, ...(failure !== undefined && { failure }) } };
    } finally {
      await lease?.release();
    }
  }
}

/** Like `Promise.all`, but a failure is thrown only when none is still running. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
