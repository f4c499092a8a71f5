import { dirname } from "node:path";
import { type Database, open, type RootDatabase } from "lmdb";
import { KvspliceError } from "../plan/index.js";
import { isOpenable, makeFolder } from "../storage/index.js";
import { lengthOf, type Window } from "./window.js";

export type ConversationRecordsOptions = {
  /** Maximum tokens whose KV states are kept for conversations; the least recently used are dropped first. */
  readonly maxTokens: number;
  /** Anything unused for this long is dropped as well. */
  readonly maxAge_ms: number;
  /** Called with the keys of dropped KV states, to delete them from the store. */
  readonly forget: (keys: readonly string[]) => void;
};

type WindowRecord = Window & { readonly end: string; readonly used_ms: number; readonly tokens: number };
type SegmentRecord = { readonly used_ms: number; readonly tokens: number };
type Kind = "windows" | "segments";

/** Times that windows may list a token: it takes a few bytes in a window, where its KV states take kilobytes. */
const WINDOW_TOKENS_PER_TOKEN = 100;

/** Maximum windows kept with the same end: the newest. */
const MOST_OF_AN_END = 4;

/** Incremented when the format of windows changes. Older windows are dropped; their KV states age out. */
const FORMAT = 2;

/**
 * What is known about conversations, in one LMDB file next to the store: for the texts up to an answer, the tokens that
 * the model had seen and the KV states they were made of. Limited by tokens and by age; safe for several processes.
 *
 *     windows   hash of opening and texts -> WindowRecord
 *     ends      hash of the last texts    -> keys of the newest windows that end with them
 *     segments  block key                 -> SegmentRecord: KV states kept in the store only for clients
 *     order     [kind, used_ms, key]      -> true
 *     totals    kind                      -> tokens; "format" -> of the windows
 */
export class ConversationRecords {
  private readonly windows: Database<WindowRecord, string>;
  private readonly segments: Database<SegmentRecord, string>;
  private readonly order: Database<true, [Kind, number, string]>;
  private readonly ends: Database<readonly string[], string>;
  private readonly totals: Database<number, Kind | "format">;

  private constructor(
    private readonly root: RootDatabase,
    private readonly options: ConversationRecordsOptions,
  ) {
    this.windows = root.openDB({ name: "windows" });
    this.segments = root.openDB({ name: "segments" });
    this.order = root.openDB({ name: "order" });
    this.ends = root.openDB({ name: "ends" });
    this.totals = root.openDB({ name: "totals" });
  }

  /** @throws KvspliceError `bad_store` if the file is of another kind or cannot be opened */
  static open(path: string, options: ConversationRecordsOptions): ConversationRecords {
    try {
      makeFolder(dirname(path));
      if (!isOpenable(path)) throw new Error("the file is damaged");
      const records = new ConversationRecords(open({ path, noSubdir: true }), options);
      records.commit(() => records.dropFormer());
      return records;
    } catch (cause) {
      throw new KvspliceError(
        "bad_store",
        `The conversations in ${path} cannot be opened (${(cause as Error).message}). Delete the file to start over: only time is lost.`,
        { cause },
      );
    }
  }

  /** What the model saw after an answer; `key` identifies the texts up to it. */
  window(key: string): Window | undefined {
    const found = this.windows.get(key);
    return found && { exchanges: found.exchanges, tail: found.tail };
  }

  /** The newest windows with this end, newest first. */
  endingWith(end: string): Window[] {
    return (this.ends.get(end) ?? []).flatMap((key) => this.window(key) ?? []);
  }

  /** Remembers what the model saw after an answer; `end` identifies the last texts. Counts as a use of all its segments. */
  remember(key: string, window: Window, end: string): void {
    this.commit((now) => {
      this.put("windows", key, { ...window, end, tokens: lengthOf(window.exchanges), used_ms: now });
      this.ends.putSync(end, [key, ...(this.ends.get(end) ?? [])].slice(0, MOST_OF_AN_END));
      for (const { segments } of window.exchanges) for (const segment of segments) this.useAt(segment.key, now);
    });
  }

  /** Copies another server's window: its KV states are counted here as well, since this server's tiers keep what they read. */
  adopt(key: string, window: Window, end: string): void {
    this.commit((now) => {
      for (const segment of window.exchanges.flatMap(({ segments }) => segments))
        this.put("segments", segment.key, { tokens: segment.tokens.length, used_ms: now });
    });
    this.remember(key, window, end);
  }

  /** Counts KV states that were stored for a client: without being counted they would never be deleted. */
  keep(key: string, tokens: number): void {
    this.commit((now) => this.put("segments", key, { tokens, used_ms: now }));
  }

  /** Records a use of KV states. Those not kept for clients are not counted. */
  use(keys: readonly string[]): void {
    if (keys.length > 0) this.commit((now) => keys.forEach((key) => this.useAt(key, now)));
  }

  /** Tokens whose KV states are kept for clients. */
  get keptTokens(): number {
    return this.totals.get("segments") ?? 0;
  }

  /** Closes the file. The records cannot be used afterwards. */
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
    const { end } = known as Partial<WindowRecord>;
    if (end !== undefined) this.leaveEnd(end, key);
  }

  private leaveEnd(end: string, key: string): void {
    const others = (this.ends.get(end) ?? []).filter((each) => each !== key);
    if (others.length > 0) this.ends.putSync(end, others);
    else this.ends.removeSync(end);
  }

  private dropFormer(): void {
    if (this.totals.get("format") === FORMAT) return;
    for (const key of [...this.windows.getKeys()]) this.remove("windows", key);
    this.totals.putSync("format", FORMAT);
  }

  /** One transaction, after which anything over the limits is dropped. */
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
