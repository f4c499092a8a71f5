import { dirname } from "node:path";
import { open, type Database, type RootDatabase } from "lmdb";
import { KvspliceError } from "../plan/index.js";
import { isOpenable, makeFolder } from "../storage/index.js";
import type { Window } from "./window.js";

export type RecordsOptions = {
  /** Tokens whose KV may be kept for conversations; those used longest ago go first. */
  readonly maxTokens: number;
  /** What was not used for as long goes as well. */
  readonly maxAge_ms: number;
  /** Told of KV that goes; whoever holds it deletes it. */
  readonly forget: (keys: readonly string[]) => void;
};

type WindowRecord = Window & { readonly used_ms: number; readonly tokens: number };
type SegmentRecord = { readonly used_ms: number; readonly tokens: number };
type Kind = "windows" | "segments";

/** A window tells the tokens of its segments: some bytes a token, where KV takes kilobytes. It may be told as often. */
const WINDOW_TOKENS_PER_TOKEN = 100;

/**
 * What is known of conversations, in one LMDB file beside the store: by the texts up to an answer, the tokens that the
 * model then saw, and of which KV it was made. Bounded by tokens and by age; safe for several processes.
 *
 *     windows   hash of opening and texts -> WindowRecord
 *     segments  block key                 -> SegmentRecord: KV that is in the store for clients alone
 *     order     [kind, used_ms, key]      -> true
 *     totals    kind                      -> tokens
 */
export class Records {
  private readonly windows: Database<WindowRecord, string>;
  private readonly segments: Database<SegmentRecord, string>;
  private readonly order: Database<true, [Kind, number, string]>;
  private readonly totals: Database<number, Kind>;

  private constructor(
    private readonly root: RootDatabase,
    private readonly options: RecordsOptions,
  ) {
    this.windows = root.openDB({ name: "windows" });
    this.segments = root.openDB({ name: "segments" });
    this.order = root.openDB({ name: "order" });
    this.totals = root.openDB({ name: "totals" });
  }

  /** @throws KvspliceError `bad_store` where the file is not one of these, or cannot be opened */
  static open(path: string, options: RecordsOptions): Records {
    try {
      makeFolder(dirname(path));
      if (!isOpenable(path)) throw new Error("the file is damaged");
      const records = new Records(open({ path, noSubdir: true }), options);
      records.commit(() => undefined);
      return records;
    } catch (cause) {
      throw new KvspliceError("bad_store", `The conversations in ${path} cannot be opened (${(cause as Error).message}). Delete the file to begin anew: nothing but time is lost.`, { cause });
    }
  }

  /** What the model saw after an answer; `key` stands for the texts up to it. */
  window(key: string): Window | undefined {
    const found = this.windows.get(key);
    return found && { exchanges: found.exchanges, tail: found.tail };
  }

  /** Remembers what the model saw after an answer. All of its segments are used by that. */
  remember(key: string, window: Window): void {
    const segments = window.exchanges.flat();
    const tokens = segments.reduce((sum, segment) => sum + segment.tokens.length, 0);
    this.commit((now) => {
      this.put("windows", key, { ...window, tokens, used_ms: now });
      for (const segment of segments) this.useAt(segment.key, now);
    });
  }

  /** Counts KV that was put into the store on behalf of a client: what nobody counts, nobody lets go of. */
  keep(key: string, tokens: number): void {
    this.commit((now) => this.put("segments", key, { tokens, used_ms: now }));
  }

  /** Notes that KV was used. What is not kept for clients is not counted by that. */
  use(keys: readonly string[]): void {
    if (keys.length > 0) this.commit((now) => keys.forEach((key) => this.useAt(key, now)));
  }

  /** Tokens whose KV is kept for clients. */
  get keptTokens(): number {
    return this.totals.get("segments") ?? 0;
  }

  async close(): Promise<void> {
    await this.root.close();
  }

  private useAt(key: string, now: number): void {
    const known = this.segments.get(key);
    if (known) this.put("segments", key, { ...known, used_ms: now });
  }

  private put(kind: "windows", key: string, record: WindowRecord): void;
  private put(kind: "segments", key: string, record: SegmentRecord): void;
  private put(kind: Kind, key: string, record: WindowRecord & SegmentRecord): void {
    this.remove(kind, key);
    this[kind].putSync(key, record);
    this.order.putSync([kind, record.used_ms, key], true);
    this.totals.putSync(kind, (this.totals.get(kind) ?? 0) + record.tokens);
  }

  private remove(kind: Kind, key: string): void {
    const known = this[kind].get(key);
    if (!known) return;
    this[kind].removeSync(key);
    this.order.removeSync([kind, known.used_ms, key]);
    this.totals.putSync(kind, (this.totals.get(kind) ?? 0) - known.tokens);
  }

  /** One transaction, and then what is too much or too old goes. */
  private commit(change: (now: number) => void): void {
    const now = Date.now();
    const gone = this.root.transactionSync(() => {
      change(now);
      this.prune("windows", this.options.maxTokens * WINDOW_TOKENS_PER_TOKEN, now);
      return this.prune("segments", this.options.maxTokens, now);
    });
    if (gone.length > 0) this.options.forget(gone);
  }

  private prune(kind: Kind, maxTokens: number, now: number): string[] {
    const gone: string[] = [];
    for (;;) {
      const [oldest] = this.order.getKeys({ start: [kind, 0, ""], end: [kind, Number.MAX_SAFE_INTEGER, ""], limit: 1 });
      if (!oldest) return gone;
      const [, used_ms, key] = oldest;
      if ((this.totals.get(kind) ?? 0) <= maxTokens && now - used_ms <= this.options.maxAge_ms) return gone;
      gone.push(key);
      this.remove(kind, key);
    }
  }
}
