import type { Block } from "../kv/block.js";
import type { BlockKey } from "../../plan/index.js";

export type { BlockKey };

/** What the store is told of a block beside its KV. */
export type PutOptions = {
  /** Name of the model that encoded it, for people. */
  readonly model?: string;
  /** What it took to encode it; weighs the block against others when room is made. */
  readonly cost_ms?: number;
  /** A pinned block is not evicted: it goes when it is deleted. */
  readonly pinned?: boolean;
};

/** `keepPinned`: blocks that somebody pinned stay, since others hold them too. */
export type DeleteOptions = { readonly keepPinned?: boolean };

/** The right to encode a missing block. Others wait for its block, or for its end. */
export type Lease = { release(): Promise<void> };

/** Where blocks live. A block is immutable: putting a key again is not an error and changes nothing. */
export interface BlockStore {
  /** The block, or undefined where it is absent or does not verify. What was returned stays whole, whatever is evicted. */
  get(key: BlockKey): Promise<Block | undefined>;
  /** Whether the key is stored; the block's bytes are not read. */
  has(key: BlockKey): Promise<boolean>;
  /** Durable when the promise resolves. */
  put(key: BlockKey, block: Block, options?: PutOptions): Promise<void>;
  delete(keys: readonly BlockKey[], options?: DeleteOptions): Promise<void>;
  keys(): AsyncIterable<BlockKey>;
  /** What is asked of it afterwards is refused with KvspliceError `closed`. */
  close(): Promise<void>;
  /** A hint: these will be asked for soon, so they are on their way from now. */
  prefetch?(keys: readonly BlockKey[]): void;
  /** Pins those that are stored: see `PutOptions`. */
  pin?(keys: readonly BlockKey[]): void;
  /** Leave to encode a missing block; undefined while another, in whichever process or machine, has it. */
  lease?(key: BlockKey): Promise<Lease | undefined>;
}

export type TierName = "memory" | "disk" | "redis";

/** What is known of a stored block without reading it. */
export type BlockInfo = {
  readonly key: BlockKey;
  /** Of its safetensors form. */
  readonly bytes: number;
  readonly tokens: number;
  readonly precision: string;
  /** Empty where it was not told. */
  readonly model: string;
  readonly cost_ms: number;
  readonly pinned: boolean;
  /** How often it was read, and when it was put or last read (Unix time): to the minute, as reads are counted in batches. */
  readonly uses: number;
  readonly used_ms: number;
};

/** A durable tier as commands see it: its blocks one by one, and as bytes. */
export interface StoredTier {
  readonly name: TierName;
  /** Of all blocks, as `BlockInfo.bytes` counts them. */
  bytes(): Promise<number>;
  infos(): AsyncIterable<BlockInfo>;
  /** The block's safetensors file, unverified. */
  read(key: BlockKey): Promise<Buffer | undefined>;
  /** Verifies the block and removes nothing; true where it is sound, undefined where it is absent. */
  verify(key: BlockKey): Promise<boolean | undefined>;
  delete(keys: readonly BlockKey[]): Promise<void>;
}

export type TierStats = {
  readonly tier: TierName;
  /** Reads that this tier answered. */
  readonly hits: number;
  /** Bytes held, and the most that may be; undefined where there is no bound. */
  readonly bytes: number;
  readonly budget_bytes?: number;
};

export type StoreStats = {
  readonly tiers: readonly TierStats[];
  /** Reads that no tier answered. */
  readonly misses: number;
  /** Blocks that are on disk and not yet in the shared tier. */
  readonly pending: number;
  /** Blocks that did not verify. */
  readonly damaged: number;
  /** Reads of all processes since the disk tier was made: what each tier answered, and none. */
  readonly ever?: Readonly<Record<TierName | "misses", number>>;
};

/** Told of what a store gets over by itself. Process warnings when left out. */
export type StoreHooks = {
  /** A block was there and did not verify; it is treated as absent and replaced when it is put again. */
  readonly onDamage?: (key: BlockKey, tier: TierName) => void;
  /** A tier fails, or works again; the store goes on without it meanwhile. */
  readonly onTrouble?: (message: string) => void;
};

/** What `openStore` gives: its tiers as one store. */
export interface TieredStore extends BlockStore, AsyncDisposable {
  /** The tiers that outlive the process, nearest first. */
  readonly tiers: readonly StoredTier[];
  stats(): Promise<StoreStats>;
  /** Resolves when nothing waits for the shared tier; rejects where that fails. */
  flush(): Promise<void>;
}
