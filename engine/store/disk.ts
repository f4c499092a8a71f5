import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Database, open, type RootDatabase } from "lmdb";
import { KvspliceError } from "../../plan/index.js";
import { CommonCommit, checkLmdbFile, makeFolder, mayWriteLmdb, storageError } from "../../storage/index.js";
import type { Block } from "../kv/block.js";
import { decodeSafetensors } from "../kv/safetensors.js";
import { worthOf } from "./eviction.js";
import type { BlockInfo, BlockKey, StoredTier, TierName } from "./store.js";

export type DiskOptions = {
  /** Folder that contains the tier's file. */
  readonly path: string;
  readonly budget_bytes?: number | undefined;
  readonly onDamage: (key: BlockKey) => void;
};

/** What is stored along with a block. */
type Entry = Omit<BlockInfo, "key"> & { readonly worth: number };
type HeldLease = { readonly owner: string; readonly pid: number; readonly until_ms: number };

const FILE = "blocks.lmdb";

/** Address space, not memory or disk: the file can grow without having to be remapped under other processes. */
const MAP_BYTES = 2 ** 40;

/** From this size on, a read lets one of LMDB's threads fault the pages in, so that a cold disk does not block the event loop. */
const LARGE_BYTES = 256 * 1024;

/** Larger files are joined in memory of their own. */
const MOST_KEPT = 2 ** 24;

/** A lease is renewed three times in this period; it ends with its process, or at the latest after this. */
export const LEASE_MS = 15_000;

/** LMDB reports a write that a full disk cut short as an input/output error. */
const NO_SPACE = /no space|input\/output error|quota|MDB_MAP_FULL/i;
const NO_PERMISSION = /permission denied|read-only|not permitted|EACCES|EROFS/i;

/**
 * Blocks in one LMDB file, for any number of processes on one machine. Each change is one transaction and is on disk when the
 * call returns; a kill at any moment leaves the state from before it or after it.
 *
 *     blocks   key -> safetensors file
 *     infos    key -> what is known about it
 *     order    [worth, key] -> true: blocks that may be evicted, the first to go first
 *     pending  key -> true: not yet in the shared tier
 *     leases   key -> who is encoding it, until when
 *     counts   "bytes" of all blocks, "clock" of the eviction, and "memory", "disk", "redis", "misses": reads answered so far
 *
 * LMDB calls run on the event loop: they take microseconds, except for writing, which takes as long as the disk needs to flush
 * it. Leases and blocks of the same time are flushed together.
 */
export class DiskTier implements StoredTier {
  readonly name = "disk";
  private readonly blocks: Database<Buffer, BlockKey>;
  private readonly entries: Database<Entry, BlockKey>;
  private readonly order: Database<true, [worth: number, key: BlockKey]>;
  private readonly journal: Database<true, BlockKey>;
  private readonly leases: Database<HeldLease, BlockKey>;
  private readonly counts: Database<number, string>;
  private readonly common: CommonCommit;
  /** Leases of this process, with their owners. */
  private readonly leased = new Map<BlockKey, string>();
  /** Holds one file while it is written: memory that is allocated anew for each costs more than copying into it. */
  private file = Buffer.alloc(0);
  /** Reads since they were last recorded. */
  private touched = new Map<BlockKey, number>();
  private counted = new Map<string, number>();

  private constructor(
    private readonly root: RootDatabase,
    private readonly options: DiskOptions,
    readonly readOnly: boolean,
  ) {
    this.blocks = root.openDB({ name: "blocks", encoding: "binary" });
    this.entries = root.openDB({ name: "infos" });
    this.order = root.openDB({ name: "order" });
    this.journal = root.openDB({ name: "pending" });
    this.leases = root.openDB({ name: "leases" });
    this.counts = root.openDB({ name: "counts" });
    this.common = new CommonCommit(root);
  }

  /** @throws KvspliceError `bad_store` if the file is damaged or cannot be read, `no_space` if it cannot be made */
  static open(options: DiskOptions): DiskTier {
    const file = join(options.path, FILE);
    const settings = { path: file, noSubdir: true, mapSize: MAP_BYTES, overlappingSync: false };
    try {
      makeFolder(options.path);
      checkLmdbFile(file);
      const readOnly = existsSync(file) && !mayWriteLmdb(file);
      const tier = new DiskTier(open({ ...settings, readOnly }), options, readOnly);
      if (!readOnly) tier.root.readerCheck(); // killed readers keep old pages from being reused
      return tier;
    } catch (cause) {
      if (cause instanceof KvspliceError) throw cause;
      throw this.failure(
        cause,
        options.path,
        `The store in ${options.path} cannot be opened (${(cause as Error).message}); check the folder, or use another.`,
      );
    }
  }

  async get(key: BlockKey): Promise<Block | undefined> {
    const bytes = await this.read(key);
    if (!bytes) return undefined;
    const block = decodeSafetensors(key, bytes);
    if (block) this.touched.set(key, (this.touched.get(key) ?? 0) + 1);
    else this.discard(key);
    return block;
  }

  has(key: BlockKey): boolean {
    return this.entries.doesExist(key);
  }

  /**
   * Stores a block's file; if the key exists, only its pin changes. The key's lease ends if it belongs to this process.
   *
   * @param parts of the file, in order, `info.bytes` in total
   * @param pending whether it still has to be written to the shared tier
   * @throws KvspliceError `no_space`, `bad_store`
   */
  async put(info: BlockInfo, parts: readonly Uint8Array[], pending: boolean): Promise<void> {
    const { key, ...rest } = info;
    const owner = this.leased.get(key);
    await this.commitSoon(() => {
      if (owner !== undefined) this.releaseNow(key, owner);
      if (this.has(key)) return info.pinned ? this.pinNow(key) : undefined;
      this.makeRoom(info.bytes);
      const entry: Entry = { ...rest, worth: worthOf(this.count("clock"), info) };
      this.blocks.putSync(key, this.joined(parts, info.bytes));
      this.entries.putSync(key, entry);
      if (!info.pinned) this.order.putSync([entry.worth, key], true);
      if (pending) this.journal.putSync(key, true);
      this.counts.putSync("bytes", this.count("bytes") + info.bytes);
    }, info.bytes);
    this.leased.delete(key);
  }

  pin(keys: readonly BlockKey[]): void {
    const unpinned = keys.filter((key) => this.entries.get(key)?.pinned === false);
    if (unpinned.length > 0) this.commit(() => unpinned.forEach((key) => this.pinNow(key)));
  }

  async read(key: BlockKey): Promise<Buffer | undefined> {
    const info = this.entries.get(key);
    if (!info) return undefined;
    if (info.bytes >= LARGE_BYTES) await this.blocks.prefetch([key]);
    return this.blocks.get(key);
  }

  async verify(key: BlockKey): Promise<boolean | undefined> {
    const bytes = await this.read(key);
    return bytes && decodeSafetensors(key, bytes) !== undefined;
  }

  async delete(keys: readonly BlockKey[]): Promise<void> {
    const there = keys.filter((key) => this.has(key));
    if (there.length > 0) this.commit(() => there.forEach((key) => this.drop(key)));
  }

  info(key: BlockKey): BlockInfo | undefined {
    const entry = this.entries.get(key);
    return entry && infoOf(key, entry);
  }

  async *infos(): AsyncIterable<BlockInfo> {
    for (const { key, value } of this.entries.getRange({ snapshot: false })) yield infoOf(key, value);
  }

  async *keys(): AsyncIterable<BlockKey> {
    yield* this.entries.getKeys({ snapshot: false });
  }

  async bytes(): Promise<number> {
    return this.count("bytes");
  }

  /** Keys that are not in the shared tier yet. */
  pending(): BlockKey[] {
    return [...this.journal.getKeys()];
  }

  /** Records that the shared tier has them. */
  acknowledge(keys: readonly BlockKey[]): void {
    this.commit(() => keys.forEach((key) => this.journal.removeSync(key)));
  }

  /** Takes the lease of a key, unless another owner that is alive holds it. */
  lease(key: BlockKey, owner: string): Promise<boolean> {
    return this.commitSoon(() => {
      const held = this.leases.get(key);
      if (held && held.owner !== owner && held.until_ms > Date.now() && isAlive(held.pid)) return false;
      this.leases.putSync(key, leaseOf(owner));
      this.leased.set(key, owner);
      return true;
    });
  }

  /** Renews the lease of a key, if it has not ended: `put` ends it. */
  renew(key: BlockKey, owner: string): Promise<void> {
    return this.commitSoon(() => {
      if (this.leases.get(key)?.owner === owner) this.leases.putSync(key, leaseOf(owner));
    });
  }

  /** Ends the lease of a key. There is nothing to do if a `put` of this tier has ended it. */
  async release(key: BlockKey, owner: string): Promise<void> {
    if (this.leased.delete(key)) await this.commitSoon(() => this.releaseNow(key, owner));
  }

  /** Counts reads for the statistics; the next `settle` records them. */
  tally(name: TierName | "misses"): void {
    this.counted.set(name, (this.counted.get(name) ?? 0) + 1);
  }

  /** Reads in all processes that a tier answered (or none did: "misses"). */
  tallied(name: TierName | "misses"): number {
    return this.count(name) + (this.counted.get(name) ?? 0);
  }

  /** Records the reads since the last time. They only guide evictions: if they cannot be written, they are dropped. */
  settle(): void {
    const [touched, counted] = [this.touched, this.counted];
    if (this.readOnly || touched.size + counted.size === 0) return;
    [this.touched, this.counted] = [new Map(), new Map()];
    try {
      this.root.transactionSync(() => {
        for (const [key, uses] of touched) this.touch(key, uses);
        for (const [name, count] of counted) this.counts.putSync(name, this.count(name) + count);
      });
    } catch {
      // A full disk: the reads were answered all the same.
    }
  }

  async close(): Promise<void> {
    this.common.flush();
    this.settle();
    await this.root.close();
  }

  /** Reports and removes a block that does not verify, so that it can be put again. */
  discard(key: BlockKey): void {
    this.options.onDamage(key);
    if (this.readOnly) return;
    try {
      this.commit(() => this.drop(key));
    } catch {
      // It will be found damaged and encoded again until something can be written.
    }
  }

  private releaseNow(key: BlockKey, owner: string): void {
    if (this.leases.get(key)?.owner === owner) this.leases.removeSync(key);
  }

  /** One file from its parts, valid until the next one is joined. */
  private joined(parts: readonly Uint8Array[], bytes: number): Buffer {
    if (bytes > MOST_KEPT) return Buffer.concat(parts, bytes);
    if (this.file.length < bytes) this.file = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const part of parts) {
      this.file.set(part, at);
      at += part.length;
    }
    return this.file.subarray(0, bytes);
  }

  private touch(key: BlockKey, uses: number): void {
    const entry = this.entries.get(key);
    if (!entry) return;
    const used = { ...entry, uses: entry.uses + uses, used_ms: Date.now() };
    const touched: Entry = { ...used, worth: worthOf(this.count("clock"), used) };
    this.entries.putSync(key, touched);
    if (entry.pinned) return;
    this.order.removeSync([entry.worth, key]);
    this.order.putSync([touched.worth, key], true);
  }

  private pinNow(key: BlockKey): void {
    const entry = this.entries.get(key);
    if (!entry || entry.pinned) return;
    this.order.removeSync([entry.worth, key]);
    this.entries.putSync(key, { ...entry, pinned: true });
  }

  /** Evicts the blocks of least worth; those that the shared tier does not have yet stay. */
  private makeRoom(bytes: number): void {
    const { budget_bytes = Infinity, path } = this.options;
    let excess = this.count("bytes") + bytes - budget_bytes;
    if (excess <= 0) return;
    const evicted: BlockKey[] = [];
    let clock = 0;
    for (const [worth, key] of this.order.getKeys()) {
      if (this.journal.doesExist(key)) continue;
      evicted.push(key);
      clock = worth;
      excess -= this.entries.get(key)?.bytes ?? 0;
      if (excess <= 0) break;
    }
    if (excess > 0) {
      throw new KvspliceError(
        "no_space",
        `The disk budget of ${budget_bytes} bytes of the store in ${path} is used up by pinned blocks (those of precomputed ` +
          `documents) and has no room for ${bytes} more: raise --disk-budget, or use another --store.`,
      );
    }
    for (const key of evicted) this.drop(key);
    this.counts.putSync("clock", clock);
  }

  private drop(key: BlockKey): void {
    const entry = this.entries.get(key);
    if (!entry) return;
    this.order.removeSync([entry.worth, key]);
    this.blocks.removeSync(key);
    this.entries.removeSync(key);
    this.journal.removeSync(key);
    this.counts.putSync("bytes", this.count("bytes") - entry.bytes);
  }

  private count(name: string): number {
    return this.counts.get(name) ?? 0;
  }

  /** Runs one transaction, which is on disk when this returns. */
  private commit<T>(change: () => T): T {
    this.mustBeWritable();
    try {
      return this.root.transactionSync(change);
    } catch (cause) {
      throw DiskTier.failure(cause, this.options.path);
    }
  }

  /** The same, together with other changes of this time; it is on disk when this resolves. */
  private async commitSoon<T>(change: () => T, bytes?: number): Promise<T> {
    this.mustBeWritable();
    try {
      return await this.common.run(change, bytes);
    } catch (cause) {
      throw DiskTier.failure(cause, this.options.path);
    }
  }

  private mustBeWritable(): void {
    if (!this.readOnly) return;
    throw new KvspliceError("bad_store", `No permission to write the blocks in ${this.options.path}: grant it, or use another --store.`);
  }

  private static failure(cause: unknown, path: string, otherwise?: string): unknown {
    if (cause instanceof KvspliceError) return cause;
    const { message } = cause as Error;
    const code = NO_SPACE.test(message) ? "ENOSPC" : NO_PERMISSION.test(message) ? "EACCES" : undefined;
    if (code) return storageError(Object.assign(new Error(message, { cause }), { code }), `the blocks in ${path}`, "use another --store");
    return otherwise === undefined ? cause : new KvspliceError("bad_store", otherwise, { cause });
  }
}

function infoOf(key: BlockKey, { worth: _, ...info }: Entry): BlockInfo {
  return { key, ...info };
}

function leaseOf(owner: string): HeldLease {
  return { owner, pid: process.pid, until_ms: Date.now() + LEASE_MS };
}

/** Whether a process of this machine is running, including those of other users. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
