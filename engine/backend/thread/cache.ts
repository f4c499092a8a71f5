import { keptRuns, type Range } from "../../../plan/index.js";
import type { Thread } from "../../../runtime/thread.js";
import type { Block, Precision } from "../../kv/block.js";
import type { Cache } from "../backend.js";
import type { CacheNumber, ModelCalls } from "./calls.js";
import type { Stage } from "./stage.js";

/** A cache whose rows are in the thread. Its length is known here, because the thread handles calls in order. */
export class ThreadCache implements Cache {
  private rows = 0;
  private room = 0;

  constructor(
    readonly number: CacheNumber,
    private readonly thread: Thread<ModelCalls>,
    private readonly stage: Stage,
  ) {
    thread.tell("create", number);
  }

  get length(): number {
    return this.rows;
  }

  get capacity(): number {
    return this.room;
  }

  async reserve(tokens: number): Promise<void> {
    if (tokens <= this.room) return;
    await this.thread.ask("reserve", { cache: this.number, tokens });
    this.room = tokens;
  }

  async splice(block: Block, positions: Int32Array, omit: readonly Range[] = []): Promise<void> {
    for (const [start, end] of keptRuns(block.tokens, omit)) this.rows += end - start;
    await this.stage.show(block, (shown) => this.thread.ask("splice", { cache: this.number, block: shown, positions, omit }));
  }

  extract(from: number, to: number, precision: Precision): Promise<Block> {
    return this.thread.ask("extract", { cache: this.number, from, to, precision });
  }

  truncate(length: number): void {
    if (length >= this.rows) return;
    this.rows = length;
    this.thread.tell("truncate", { cache: this.number, length });
  }

  /** A pass has added this many rows after the others. */
  append(rows: number): void {
    this.rows += rows;
  }

  free(): void {
    this.thread.tell("free", this.number);
  }
}
