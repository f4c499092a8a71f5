import type { BlockKey } from "../../plan/index.js";
import type { Block } from "../kv/block.js";

export type { BlockKey };

/** What the caller tells the store about a block besides its KV. */
export type PutOptions = {
  /** Display name of the model that encoded it; none by default. */
  readonly model?: string;
  /** What it cost to encode; weighs the block against others when room is made. A typical time for its number of tokens if omitted. */
  readonly cost_ms?: number;
  /** A pinned block is not evicted; it goes only when it is deleted. False by default. */
  readonly pinned?: boolean;
};

/** Which blocks a deletion leaves in place. */
export type DeleteOptions = {
  /** Keeps pinned blocks, since others use them too. False by default. */
  readonly keepPinned?: boolean;
  /** Deletes on this machine only: the shared tier keeps the blocks for other machines. False by default. */
  readonly here?: boolean;
};

/** The right to encode a missing block. Others wait for the block, or for the lease to end. */
export type Lease = {
  /** Gives up the right. */
  release(): Promise<void>;
};

/** Where blocks are stored. A block is immutable: putting a key again is not an error and changes nothing. */
export interface BlockStore {
  /**
   * The block, or undefined if it is absent or does not verify. A returned block stays intact whatever is evicted.
   * @param onRead called with the tier that had it, if the store has tiers; undefined if none had
   */
  get(key: BlockKey, onRead?: (tier: TierName | undefined) => void): Promise<Block | undefined>;
  /** Whether the key is stored; does not read the block's bytes. */
  has(key: BlockKey): Promise<boolean>;
  /**
   * Durable when the promise resolves. If the disk tier is read-only, only the other tiers keep the block, which is reported
   * once, and a block to be pinned is refused with KvspliceError `bad_store`.
   */
  put(key: BlockKey, block: Block, options?: PutOptions): Promise<void>;
  /** Deletes blocks from every tier, pinned ones included unless `options` says otherwise. Absent keys are ignored. */
  delete(keys: readonly BlockKey[], options?: DeleteOptions): Promise<void>;
  /** The keys of all stored blocks, each once, in no particular order. */
  keys(): AsyncIterable<BlockKey>;
  /** Later calls are refused with KvspliceError `closed`. */
  close(): Promise<void>;
  /** A hint: these blocks will be needed soon, so reading them starts now. */
  prefetch?(keys: readonly BlockKey[]): void;
  /** Pins those that are stored: see `PutOptions`. */
  pin?(keys: readonly BlockKey[]): void;
  /** Permission to encode a missing block; undefined while another process or machine has it. */
  lease?(key: BlockKey): Promise<Lease | undefined>;
}

/** Where a tier keeps its blocks, nearest first. */
export type TierName = "memory" | "disk" | "redis" | "objects";

/** What is known about a stored block without reading it. */
export type BlockInfo = {
  readonly key: BlockKey;
  /** Size of its safetensors form. */
  readonly bytes: number;
  readonly tokens: number;
  readonly precision: string;
  /** Empty if the caller did not give it. */
  readonly model: string;
  readonly cost_ms: number;
  readonly pinned: boolean;
  /** How often it was read, and when it was put or last read (Unix time), to the minute: reads are counted in batches. */
  readonly uses: number;
  readonly used_ms: number;
};

/** A durable tier as commands see it: its blocks one by one, and as bytes. */
export interface StoredTier {
  readonly name: TierName;
  /** Total of all blocks, as `BlockInfo.bytes` counts them. */
  bytes(): Promise<number>;
  /** What is known about each block of the tier, in no particular order. */
  infos(): AsyncIterable<BlockInfo>;
  /** The block's safetensors file, unverified. */
  read(key: BlockKey): Promise<Buffer | undefined>;
  /** Verifies the block and removes nothing; true if it is sound, undefined if it is absent. */
  verify(key: BlockKey): Promise<boolean | undefined>;
  /** Deletes blocks from this tier. Absent keys are ignored. */
  delete(keys: readonly BlockKey[]): Promise<void>;
}

/** What one tier contains, and the reads it has answered since the store was opened. */
export type TierStats = {
  readonly tier: TierName;
  /** Reads that this tier answered. */
  readonly hits: number;
  /** Bytes stored, omitted if counting them would need a list of a whole bucket; and the most allowed, omitted if there is no limit. */
  readonly bytes?: number;
  readonly budget_bytes?: number;
};

/** What a store contains, and the reads it has answered since it was opened. */
export type StoreStats = {
  readonly tiers: readonly TierStats[];
  /** Reads that no tier answered. */
  readonly misses: number;
  /** Blocks that are on disk but not in the shared tier yet. */
  readonly pending: number;
  /** Blocks that did not verify. */
  readonly damaged: number;
  /** Reads in all processes since the disk tier was made: those that each tier answered, and those that none did. */
  readonly ever?: Readonly<Record<TierName | "misses", number>>;
};

/** Called for problems that a store handles by itself. Process warnings if omitted. */
export type StoreHooks = {
  /** A block was found that did not verify; it is treated as absent and replaced when it is put again. */
  readonly onDamage?: (key: BlockKey, tier: TierName) => void;
  /** A tier fails, or works again; in the meantime the store continues without it. */
  readonly onTrouble?: (message: string) => void;
};

/** What `openBlockStore` returns: its tiers as one store. */
export interface TieredStore extends BlockStore, AsyncDisposable {
  /** The tiers that outlive the process, nearest first. */
  readonly tiers: readonly StoredTier[];
  /** Counts and sizes of the tiers. Queries the shared tiers for theirs. */
  stats(): Promise<StoreStats>;
  /** Resolves when nothing is waiting for the shared tier; rejects if that tier fails. */
  flush(): Promise<void>;
}
